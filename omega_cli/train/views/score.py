"""How good the views are: the figures of docs/views.md, at 128 px, by azimuth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.metrics.lpips import Lpips

SIZE = 128  # px at which views are compared
GROUPS = {"front": (0,), "45": (1, 5), "90": (2, 4), "back": (3,), "all": (0, 1, 2, 3, 4, 5)}


def measures(predicted: Tensor, truth: Tensor, lpips: Lpips) -> dict[str, Tensor]:
    """[B, 6, 7, h, w] both (rgb on white in [0, 1], normal, alpha) -> name -> [B, 6].

    lpips: LPIPS-Alex; psnr: dB over the truth's foreground grown by 2 px; iou: of alpha > 0.5; normal: mean
    angle in degrees where the truth's alpha is over 0.9; inside: share of that covered by the prediction.
    """
    a, b = (_small(t) for t in (predicted, truth))
    rgb_a, rgb_b = a[:, :3].clamp(0, 1), b[:, :3].clamp(0, 1)
    solid, seen = b[:, 6:] > 0.5, a[:, 6:] > 0.5
    area = F.max_pool2d(solid.float(), 5, 1, 2)
    error = ((rgb_a - rgb_b).square() * area).sum((1, 2, 3)) / (3 * area.sum((1, 2, 3))).clamp_min(1)
    both, either = (solid & seen).sum((1, 2, 3)), (solid | seen).sum((1, 2, 3))
    inner = (b[:, 6] > 0.9).float()
    cosine = (F.normalize(a[:, 3:6], dim=1) * F.normalize(b[:, 3:6], dim=1)).sum(1).clamp(-1, 1)
    angle = (torch.rad2deg(torch.acos(cosine)) * inner).sum((1, 2)) / inner.sum((1, 2)).clamp_min(1)
    values = {
        "lpips": lpips.distance(rgb_a, rgb_b),
        "psnr": -10 * torch.log10(error.clamp_min(1e-8)),
        "iou": both / either.clamp_min(1),
        "normal": angle,
    }
    return {name: value.view(predicted.shape[:2]) for name, value in values.items()}


def table(found: dict[str, Tensor], heads: Sequence[str]) -> dict[str, Any]:
    """Per measure: its mean by azimuth group, the median over heads, and each head's own mean.

    found: name -> [N, 6]; heads: N names, repeated for several photos of one head.
    """
    names = sorted(set(heads))
    out: dict[str, Any] = {}
    for name, values in found.items():
        by_head = {h: float(values[[i for i, n in enumerate(heads) if n == h]].mean()) for h in names}
        row: dict[str, Any] = {
            group: round(float(values[:, list(views)].mean()), 4) for group, views in GROUPS.items()
        }
        row["median_over_heads"] = round(float(torch.tensor(list(by_head.values())).median()), 4)
        row["heads"] = {h: round(v, 4) for h, v in by_head.items()}
        out[name] = row
    return out


def _small(maps: Tensor) -> Tensor:  # [B, 6, 7, h, w] -> [B 6, 7, SIZE, SIZE]
    flat = maps.flatten(0, 1).float()
    return flat if flat.shape[-1] == SIZE else F.interpolate(flat, (SIZE, SIZE), mode="area")
