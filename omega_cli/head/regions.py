"""Per-vertex weights from named regions (paper 3.2's semantic mask)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from omega_cli.head.model import HeadModel


def region_weights(model: HeadModel, table: Mapping[str, float], default: float = 0.0) -> Tensor:
    """[V] float32: each vertex takes the value of the LAST entry of `table` whose region holds it.

    Vertices in none of them take `default`. Raises KeyError naming an unknown region and the known ones.
    """
    V = model.v_template.shape[0]
    weights = torch.full((V,), float(default), device=model.v_template.device)
    for name, value in table.items():
        if name not in model.regions:
            raise KeyError(f"no region {name!r}; the head has {', '.join(sorted(model.regions))}")
        weights[model.regions[name]] = float(value)
    return weights
