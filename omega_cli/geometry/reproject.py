"""Do pictures of one surface agree? Each view read at what its neighbour sees, through the mesh."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.geometry.camera import Camera
from omega_cli.geometry.mesh import vertex_normals
from omega_cli.geometry.raster import interpolate, rasterize

FACING = 0.35  # cosine: what either camera sees at a lower one is an outline, not a surface  # ours
DEPTH_TOLERANCE = 0.004  # m behind the nearest depth of the 3x3 pixels around, and three of their sides


@dataclass(frozen=True)
class Pair:
    """What two views show of the N surface points that both see: first, second [N, C]."""

    first: Tensor
    second: Tensor


def pair(
    vertices: Tensor,  # [V, 3] m
    faces: Tensor,  # [F, 3]
    first: tuple[Camera, Tensor],  # camera, image [C, H, W]
    second: tuple[Camera, Tensor],
) -> Pair:
    """The second view's pixels, and the first view read (bilinear) where it shows the same points.

    A point counts where both cameras face it (cosine above FACING) and nothing hides it from the first.
    """
    (other, image), (camera, own) = first, second
    camera = camera.resized(own.shape[-1], own.shape[-2])
    other = other.resized(image.shape[-1], image.shape[-2])
    fragments = rasterize(vertices, faces, camera)
    hit = fragments.face_index >= 0
    at = interpolate(fragments, faces, torch.cat([vertices, vertex_normals(vertices, faces)], 1))[hit]
    points, normals = at[:, :3], F.normalize(at[:, 3:], dim=-1)

    depth = rasterize(vertices, faces, other).depth
    nearest = -F.max_pool2d(-depth[None, None], 3, 1, 1)[0, 0]
    pixels, far = other.project(points)
    x, y = pixels.floor().long().unbind(-1)
    framed = (x >= 0) & (x < other.width) & (y >= 0) & (y < other.height)
    x, y = x.clamp(0, other.width - 1), y.clamp(0, other.height - 1)
    facing = torch.stack([(normals * c.view_directions(points)).sum(-1) for c in (camera, other)]).amin(0)
    side = 1 / other.K[0, 0] if other.model == "ortho" else far / other.K[0, 0]
    both = framed & (far <= nearest[y, x] + DEPTH_TOLERANCE + 3 * side) & (facing > FACING)
    grid = pixels[both] / pixels.new_tensor([other.width, other.height]) * 2 - 1
    read = F.grid_sample(image[None], grid[None, None], padding_mode="border", align_corners=False)[0, :, 0]
    return Pair(read.T, own[:, hit].T[both])


def colour_gap(vertices: Tensor, faces: Tensor, views: Sequence[tuple[Camera, Tensor]]) -> float:
    """Mean absolute difference of colour, [0, 1], over all points that two neighbours of the ring of views
    (rgb [3, H, W] each, in order of azimuth) both see. nan: no two do."""
    pairs = ring(vertices, faces, views)
    return float(torch.cat([(p.first - p.second).abs().mean(1) for p in pairs]).mean())


def normal_gap(vertices: Tensor, faces: Tensor, views: Sequence[tuple[Camera, Tensor]]) -> float:
    """The same of world-space normals [3, H, W]: mean angle between them, degrees."""
    angles = [
        F.cosine_similarity(p.first, p.second, dim=1).clamp(-1, 1).arccos()
        for p in ring(vertices, faces, views)
    ]
    return float(torch.rad2deg(torch.cat(angles)).mean())


def ring(vertices: Tensor, faces: Tensor, views: Sequence[tuple[Camera, Tensor]]) -> list[Pair]:
    """Each view beside the one before it; the first beside the last."""
    return [pair(vertices, faces, views[k - 1], views[k]) for k in range(len(views))]
