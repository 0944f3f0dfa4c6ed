"""Networks as small files: matrices in 8 bits with a scale for each output, the rest in 16.

Safetensors bytes; the metadata holds a schema and, as JSON, the network's sizes and what it was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from omega_cli.errors import OmegaError

_SMALL = 4096  # numbers up to which a tensor stays in 16 bits
Net = TypeVar("Net", bound=nn.Module)


def quantised(weight: Tensor) -> tuple[Tensor, Tensor]:
    """[O, ...] -> int8 [O, ...] and float32 scale [O]: weight is about int8 * scale, within scale / 2."""
    scale = weight.flatten(1).abs().amax(1).clamp_min(1e-12) / 127
    return (weight / scale.view(-1, *[1] * (weight.ndim - 1))).round().to(torch.int8), scale


def to_bytes(state: dict[str, Tensor], schema: str, **about: object) -> bytes:
    """Floating tensors as a file; `about` (JSON values) goes into the metadata. Integers are left out."""
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    for name, value in state.items():
        if not value.is_floating_point():
            continue
        value = value.detach().float().cpu().contiguous()
        if value.ndim >= 2 and value.numel() > _SMALL:
            tensors[name], tensors[name + ".scale"] = quantised(value)
        else:
            tensors[name] = value.half()
    return save(tensors, {"schema": schema} | {key: json.dumps(value) for key, value in about.items()})


def from_bytes(
    data: bytes, name: str, schema: str, kind: str, build: Callable[[dict[str, Any]], Net]
) -> tuple[Net, dict[str, Any]]:
    """(network in float32, metadata). build: metadata -> a network of that shape, to be filled.

    Raises OmegaError, which calls the file `name` and what was wanted a `kind`, for something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        meta = json.loads(data[8 : 8 + length]).get("__metadata__", {})
        if meta.get("schema") != schema:
            raise ValueError(f"its schema is {meta.get('schema')!r}, not {schema!r}")
        about = {key: json.loads(value) for key, value in meta.items() if key != "schema"}
        net = build(about)
        state = {key: value for key, value in net.state_dict().items() if not value.is_floating_point()}
        for key, value in tensors.items():
            if key.endswith(".scale"):
                continue
            scale = tensors.get(key + ".scale")
            value = value.float()
            state[key] = value if scale is None else value * scale.view(-1, *[1] * (value.ndim - 1))
        net.load_state_dict(state)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OmegaError(f"{name} is no {kind} ({text}).", "Fetch or train it again.") from error
    return net.eval(), about
