"""Headgear beyond what the photo shows: caps, turbans and scarves go around the head, so do their bands."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .hair import read_chart

ROW = 0.003  # m of height in a row of the chart
COLUMNS = 96  # of angle
SPREAD = 1.5  # rows over which a band's edge is soft
FAINT = (
    (8.0, 1e-4),
    (40.0, 1e-8),
)  # rows from which a row without evidence takes it, and how much that counts
NEAR = 0.15  # rad: evidence so close in angle counts alike
TILTS = torch.arange(-25, 26, 5)  # deg


def continued_around(points: Tensor, rgb: Tensor, weight: Tensor, at: Tensor, axis_z: float) -> Tensor:
    """Colours [N, 3] of a thing that is alike all around its axis, at points `at` [N, 3] m of the head frame.

    points [P, 3] m, rgb [P, 3], weight [P]: what is seen of it. Each height takes the mean of what is seen at
    that height, most from the nearest angle. The axis stands at (0, axis_z), tilted forwards or back by as
    much as makes what is seen most alike along its rows. Ours.
    """
    tilt = likeliest_tilt(points, rgb, weight, axis_z)
    row, column, first, count = _cells(points, tilt, axis_z)
    chart = _summed(rgb, weight, row * COLUMNS + column, count * COLUMNS).view(count, COLUMNS, 4)
    r = torch.arange(count, device=rgb.device)
    apart = (r[:, None] - r).to(rgb).square()
    down = sum(share * torch.exp(-apart / (2 * reach**2)) for reach, share in ((SPREAD, 1.0), *FAINT))
    c = torch.arange(COLUMNS, device=rgb.device)
    turn = ((c[:, None] - c + COLUMNS // 2) % COLUMNS - COLUMNS // 2) * (2 * math.pi / COLUMNS)
    around = (NEAR**2 + turn.to(rgb).square()) ** -2
    filled = torch.einsum("ij,jkc,kl->ilc", down, chart, around)
    colour = filled[..., :3] / filled[..., 3:].clamp_min(1e-20)
    height, angle = _place(at, tilt, axis_z)
    return read_chart(colour.permute(2, 0, 1), torch.stack([angle, (height - first) / (ROW * count)], 1))


def likeliest_tilt(points: Tensor, rgb: Tensor, weight: Tensor, axis_z: float) -> float:
    """rad; the tilt of the axis at which colours differ least along rows; 0 where colours do not tell."""

    def unlike(tilt: float) -> float:
        row, _, _, count = _cells(points, tilt, axis_z)
        total = _summed(rgb, weight, row, count)
        mean = total[:, :3] / total[:, 3:].clamp_min(1e-9)
        return float((weight * (rgb - mean[row]).square().sum(1)).sum())

    upright = unlike(0.0)
    found = {math.radians(t): unlike(math.radians(t)) for t in TILTS.tolist()}
    best = min(found, key=found.__getitem__)
    return best if found[best] < 0.9 * upright else 0.0


def _summed(rgb: Tensor, weight: Tensor, cell: Tensor, count: int) -> Tensor:  # [count, 4]
    """Weighted colours and weights of each cell."""
    told = torch.cat([rgb, torch.ones_like(rgb[:, :1])], 1) * weight[:, None]
    return rgb.new_zeros(count, 4).index_add_(0, cell, told)


def _place(points: Tensor, tilt: float, axis_z: float) -> tuple[Tensor, Tensor]:
    """Height [N] m along the axis, and angle [N] in [0, 1)."""
    x, y, z = points[:, 0], points[:, 1], points[:, 2] - axis_z
    height = y * math.cos(tilt) + z * math.sin(tilt)
    depth = z * math.cos(tilt) - y * math.sin(tilt)
    return height, (torch.atan2(x, depth) / (2 * math.pi)) % 1


def _cells(points: Tensor, tilt: float, axis_z: float) -> tuple[Tensor, Tensor, float, int]:
    """Row and column [P] of points in the chart, the height where it begins, and its rows."""
    height, angle = _place(points, tilt, axis_z)
    first = float(height.min())
    row = ((height - first) / ROW).long()
    return row, (angle * COLUMNS).long().clamp(0, COLUMNS - 1), first, int(row.max()) + 1
