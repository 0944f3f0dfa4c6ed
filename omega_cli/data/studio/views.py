"""Cameras as stacked matrices: many views at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from omega_cli.geometry.camera import Camera


@dataclass(frozen=True)
class Views:
    """B cameras. to_clip [B, 4, 4]: a row (x, y, z, 1) of the world times it is (x, y, depth, w) as
    `rasterize_mesh` takes it; eyes [4, B]: the camera's place and 1, or, for an orthographic one, the way
    back to it and 0, so that eye - point * eyes[3] points at the camera."""

    to_clip: Tensor
    eyes: Tensor


def stack_views(cameras: Sequence[Camera], size: int, device: torch.device | str) -> Views:
    """Cameras as they see a square picture of `size` px."""
    K, viewmat = (torch.stack([getattr(c, name) for c in cameras]).to(device) for name in ("K", "viewmat"))
    scale = torch.tensor([(size / c.width, size / c.height) for c in cameras]).to(K)
    flat = torch.tensor([float(c.model == "ortho") for c in cameras]).to(K)
    centre = K[:, :2, 2] * scale
    lens = K.new_zeros(len(cameras), 4, 4)
    lens[:, [0, 1], [0, 1]] = K[:, [0, 1], [0, 1]] * scale
    lens[:, :2, 2], lens[:, :2, 3] = centre * (1 - flat[:, None]), centre * flat[:, None]
    lens[:, 2, 2] = 1.0
    lens[:, 3, 2], lens[:, 3, 3] = 1 - flat, flat
    place = -(viewmat[:, :3, :3].mT @ viewmat[:, :3, 3:])[..., 0]
    eyes = torch.where(flat[:, None] > 0, -viewmat[:, 2, :3], place)
    return Views((lens @ viewmat).mT, torch.cat([eyes, 1 - flat[:, None]], 1).T.contiguous())


def clip_space(
    points: Tensor,  # [P, N, 3] m
    to_clip: Tensor,  # [P, K, 4, 4]
) -> Tensor:  # [P, K, N, 4]
    """Every point in each of its own K views."""
    if points.is_cuda:  # no product of matrices: rounded as TF32 it would be a quarter of a pixel off
        x, y, z = points[:, None].split(1, dim=-1)
        out = torch.addcmul(to_clip[:, :, 3:], x, to_clip[:, :, :1])
        return torch.addcmul(torch.addcmul(out, y, to_clip[:, :, 1:2]), z, to_clip[:, :, 2:3])
    solid = torch.nn.functional.pad(points, (0, 1), value=1.0)
    out = solid.new_empty(*to_clip.shape[:2], points.shape[1], 4)
    for p, rows in enumerate(solid):  # a thin product a view: on a CPU a batched one is twice as slow
        for k, matrix in enumerate(to_clip[p]):
            torch.mm(rows, matrix, out=out[p, k])
    return out
