"""Which way out every vertex of a person has: soft visibility along fixed directions of the sphere."""

from __future__ import annotations

import torch
from torch import Tensor

from omega_cli.data.studio.light import sphere
from omega_cli.geometry.camera import Camera
from omega_cli.geometry.raster import rasterize_views

SIDE = 128  # px of one depth map
HALF = 0.26  # m
BIAS, SOFT = 0.004, 0.010  # m: what lies less deep is free; how fast shade deepens


def visibility(
    vertices: Tensor,  # [V, 3] of the mesh
    faces: Tensor,  # [F, 3]
    centre: Tensor,  # [3] of the maps
    points: Tensor,  # [P, 3] where to ask
) -> Tensor:  # [P, D]
    """In [0, 1] along `light.sphere()`: 1 sees out. Depth maps, so any mesh may overlap itself."""
    cameras = [_towards(d, centre).to(vertices.device) for d in sphere()]
    seen = rasterize_views(vertices, faces, cameras)
    maps = torch.where(torch.isfinite(seen.depth), seen.depth, 1e3).flatten(1)  # [D, pixels]
    out = []
    for camera, depth in zip(cameras, maps, strict=True):
        R, t = camera.viewmat[:3, :3], camera.viewmat[:3, 3]
        x, y, z = (points @ R.T + t).unbind(1)
        scale = SIDE / (2 * HALF)
        column, row = ((v * scale + SIDE / 2).long().clamp_(0, SIDE - 1) for v in (x, y))
        behind = z - depth[row * SIDE + column]
        out.append(torch.exp((behind - BIAS).clamp_(0, 0.2).mul_(-1 / SOFT)))
    return torch.stack(out, 1)


def _towards(direction: Tensor, centre: Tensor) -> Camera:
    """Orthographic camera on the side of `direction`, looking at `centre`."""
    forward = -direction
    aside = torch.tensor([0.0, 0.0, 1.0]) if abs(float(direction[1])) > 0.9 else torch.tensor([0.0, 1.0, 0.0])
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, aside), dim=0)
    viewmat = torch.eye(4)
    viewmat[:3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward])
    viewmat[:3, 3] = -viewmat[:3, :3] @ (centre.cpu() + direction)
    scale = SIDE / (2 * HALF)
    K = torch.tensor([[scale, 0.0, SIDE / 2], [0.0, scale, SIDE / 2], [0.0, 0.0, 1.0]])
    return Camera(K, viewmat, SIDE, SIDE, "ortho")
