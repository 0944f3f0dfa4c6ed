"""Which way out every vertex of a person has: soft visibility along fixed directions of the sphere."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.data.studio.light import sphere
from omega_cli.data.studio.views import clip_space, stack_views
from omega_cli.geometry.camera import Camera
from omega_cli.kernels.mesh_raster import rasterize_mesh

SIDE = 128  # px of one depth map
HALF = 0.26  # m
BIAS, SOFT = 0.004, 0.010  # m: what lies less deep is free; how fast shade deepens


def visibility(
    vertices: Tensor,  # [V, 3] of the mesh
    faces: Tensor,  # [F, 3]
    centre: tuple[float, float, float],  # of the maps, m
    points: Tensor,  # [P, 3] where to ask
) -> Tensor:  # [P, D]
    """In [0, 1] along `light.sphere()`: 1 sees out. Depth maps, so any mesh may overlap itself."""
    to_maps = _to_maps(centre).to(vertices)
    clip = clip_space(vertices[None], to_maps[None])[0]
    depth = rasterize_mesh(clip, faces, (SIDE, SIDE)).depth.flatten()  # [D * pixels], inf where empty
    asked = F.pad(points, (0, 1), value=1.0)
    x, y, z, _ = (asked @ to_maps.permute(1, 2, 0).flatten(1)).view(len(asked), 4, -1).unbind(1)  # [P, D]
    column, row = (v.to(torch.int32).clamp_(0, SIDE - 1) for v in (x, y))
    own = torch.arange(len(to_maps), dtype=torch.int32, device=x.device) * SIDE**2
    behind = z - depth[row.mul_(SIDE).add_(column).add_(own)]
    return torch.exp((behind - BIAS).clamp_(0, 0.2).mul_(-1 / SOFT))


@functools.cache
def _to_maps(centre: tuple[float, float, float]) -> Tensor:
    """`Views.to_clip` [D, 4, 4] of the maps."""
    return stack_views([_towards(d, torch.tensor(centre)) for d in sphere()], SIDE, "cpu").to_clip


def _towards(direction: Tensor, centre: Tensor) -> Camera:
    """Orthographic camera on the side of `direction`, looking at `centre`."""
    forward = -direction
    aside = torch.tensor([0.0, 0.0, 1.0]) if abs(float(direction[1])) > 0.9 else torch.tensor([0.0, 1.0, 0.0])
    right = F.normalize(torch.linalg.cross(forward, aside), dim=0)
    viewmat = torch.eye(4)
    viewmat[:3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward])
    viewmat[:3, 3] = -viewmat[:3, :3] @ (centre + direction)
    scale = SIDE / (2 * HALF)
    K = torch.tensor([[scale, 0.0, SIDE / 2], [0.0, scale, SIDE / 2], [0.0, 0.0, 1.0]])
    return Camera(K, viewmat, SIDE, SIDE, "ortho")
