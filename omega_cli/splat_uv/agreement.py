"""Where the photo's parsing contradicts the mesh: eye white on a lid, skin on an eyeball, teeth on a lip."""

from __future__ import annotations

import torch
from torch import Tensor

from omega_cli.geometry.camera import Camera
from omega_cli.geometry.raster import rasterize
from omega_cli.splat_uv.pixels import PixelSamples

SAME_SURFACE = 0.006  # ours, m: a point this near the photo's own depth is what the photo shows


def source_pixels(
    points: Tensor,  # [P, 3] m, in the source camera's world
    vertices: Tensor,  # [V, 3] m, the mesh there
    faces: Tensor,  # [F, 3]
    camera: Camera,
) -> Tensor:  # [P] flat pixel index, -1 where the photo does not show the point
    """Which pixel of the photo shows each surface point."""
    fragments = rasterize(vertices, faces, camera)
    position, depth = camera.project(points)
    x, y = position.floor().long().unbind(-1)
    inside = (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height) & (depth > 0)
    pixel = y.clamp(0, camera.height - 1) * camera.width + x.clamp(0, camera.width - 1)
    front = fragments.depth.flatten()[pixel]
    return torch.where(inside & ((depth - front).abs() < SAME_SURFACE), pixel, -1)


def parsing_agrees(
    samples: PixelSamples,
    face_part: Tensor,  # [F] long, head.parts.PARTS
    source_pixel: Tensor,  # [P], -1 unknown
    labels: Tensor,  # [H, W] long
    meaning: dict[str, int],  # name -> label number
) -> Tensor:  # [P] bool
    """False where the photo shows another thing than the mesh has there; True where nothing is known.

    Eyeballs take nothing but eye (or glasses), the mouth's parts nothing but mouth, skin neither.
    """
    known = source_pixel >= 0
    label = labels.flatten()[source_pixel.clamp_min(0)]
    part = face_part[samples.face_index]

    def shows(*names: str) -> Tensor:
        return torch.isin(label, torch.tensor([meaning[name] for name in names], device=label.device))

    eye, mouth = (part == 1) | (part == 2), (part >= 3) & (part <= 5)
    skin = ~eye & ~mouth
    wrong = (skin & shows("eyes", "mouth_inside")) | (mouth & ~shows("mouth_inside"))
    return ~(known & (wrong | (eye & ~shows("eyes", "glasses"))))
