"""The view network as a small file: matrices in 8 bits, a scale for each output, the rest in 16.

Safetensors bytes; the metadata holds the network's sizes (`config`) and what it was trained on.
"""

from __future__ import annotations

import json

import torch
from torch import Tensor

from ..errors import OmegaError
from .network import ViewNet, ViewNetConfig

SCHEMA = "omega/view-net/1"
_SMALL = 4096  # numbers up to which a tensor stays in 16 bits


def quantised(weight: Tensor) -> tuple[Tensor, Tensor]:
    """[O, ...] -> int8 [O, ...] and float32 scale [O]: weight is about int8 * scale, within scale / 2."""
    scale = weight.flatten(1).abs().amax(1).clamp_min(1e-12) / 127
    return (weight / scale.view(-1, *[1] * (weight.ndim - 1))).round().to(torch.int8), scale


def to_bytes(net: ViewNet, **about: object) -> bytes:
    """The network as a file; `about` (JSON values) goes into the metadata."""
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    for name, value in net.state_dict().items():
        value = value.detach().float().cpu().contiguous()
        if value.ndim >= 2 and value.numel() > _SMALL:
            tensors[name], tensors[name + ".scale"] = quantised(value)
        else:
            tensors[name] = value.half()
    meta = {"schema": SCHEMA, "config": json.dumps(net.description())}
    return save(tensors, meta | {key: json.dumps(value) for key, value in about.items()})


def from_bytes(data: bytes, name: str) -> tuple[ViewNet, dict[str, object]]:
    """(network in float32, its metadata). Raises OmegaError for a file that is something else."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        meta = json.loads(data[8 : 8 + length]).get("__metadata__", {})
        if meta.get("schema") != SCHEMA:
            raise ValueError(f"its schema is {meta.get('schema')!r}, not {SCHEMA!r}")
        about = {key: json.loads(value) for key, value in meta.items() if key != "schema"}
        sizes = about["config"]
        sizes["channels"] = tuple(sizes["channels"])
        net = ViewNet(ViewNetConfig(**sizes))
        state = {}
        for key, value in tensors.items():
            if key.endswith(".scale"):
                continue
            scale = tensors.get(key + ".scale")
            value = value.float()
            state[key] = value if scale is None else value * scale.view(-1, *[1] * (value.ndim - 1))
        net.load_state_dict(state)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OmegaError(f"{name} is no view network ({text}).", "Fetch or train it again.") from error
    return net.eval(), about
