"""A picture to judge a fit by: the mesh's normals half blended with the target's, the mask's edge in red."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.geometry.camera import Camera
from omega_cli.geometry.mesh import vertex_normals
from omega_cli.geometry.raster import interpolate, rasterize


def blend(posed: Tensor, faces: Tensor, camera: Camera, normal: Tensor, mask: Tensor) -> Tensor:
    """[3, H, W] in [0, 1]. posed [V, 3] m; normal [3, H, W] unit, world; mask [1, H, W]."""
    height, width = mask.shape[-2:]
    camera = camera.resized(width, height)
    fragments = rasterize(posed, faces, camera)
    own = F.normalize(interpolate(fragments, faces, vertex_normals(posed, faces)), dim=-1).permute(2, 0, 1)
    own = torch.where(fragments.mask, own / 2 + 0.5, torch.ones_like(own))
    target = mask * (normal / 2 + 0.5) + (1 - mask)
    inside = (mask > 0.5).float()[None]
    edge = (F.max_pool2d(inside, 3, 1, 1) != -F.max_pool2d(-inside, 3, 1, 1))[0]
    red = torch.tensor([1.0, 0.1, 0.1], device=mask.device)[:, None, None]
    return torch.where(edge, red, (own + target) / 2)
