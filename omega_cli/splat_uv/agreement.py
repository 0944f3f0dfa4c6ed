"""Where a view is not believed.

The photo's parsing contradicts the mesh: eye white on a lid, skin on an eyeball, teeth on a lip. Or the
front view, which is the photo, contradicts another view, whose outline is not the mesh's: hair on a cheek.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from omega_cli.geometry.camera import Camera
from omega_cli.head.parts import PARTS
from omega_cli.splat_uv.pixels import spread_max

NEIGHBOURS = 4  # ours, px: so far the mesh may be off
FREE, APART = 0.08, 0.2  # ours: so far beyond the colours of the neighbourhood all counts, or nothing does
SAME_SURFACE = 0.006  # ours, m: a point this near the photo's own depth is what the photo shows
EYES = ("left_eye", "right_eye")
MOUTH = ("teeth", "tongue", "mouth_inside")


def source_pixels(
    points: Tensor,  # [P, 3] m, in the source camera's world
    depth: Tensor,  # [H, W] m, the mesh's there, +inf where it is not
    camera: Camera,
) -> Tensor:  # [P] flat pixel index, -1 where the photo does not show the point
    """Which pixel of the photo shows each surface point."""
    position, distance = camera.project(points)
    x, y = position.floor().long().unbind(-1)
    inside = (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height) & (distance > 0)
    pixel = y.clamp(0, camera.height - 1) * camera.width + x.clamp(0, camera.width - 1)
    front = depth.flatten()[pixel]
    return torch.where(inside & ((distance - front).abs() < SAME_SURFACE), pixel, -1)


def agreement_table(labels: Sequence[str]) -> Tensor:  # [len(PARTS), len(labels)] bool
    """Which parsing labels may be seen where the mesh has each part.

    Eyeballs take nothing but eye (or glasses), the mouth's parts nothing but mouth, skin neither.
    """

    def may(part: str, label: str) -> bool:
        if part in EYES:
            return label in ("eyes", "glasses")
        return label == "mouth_inside" if part in MOUTH else label not in ("eyes", "mouth_inside")

    return torch.tensor([[may(part, label) for label in labels] for part in PARTS])


def parsing_agrees(
    part: Tensor,  # [P] long, head.parts.PARTS
    source_pixel: Tensor,  # [P], -1 unknown
    labels: Tensor,  # [H, W] integers
    table: Tensor,  # of `agreement_table`
) -> Tensor:  # [P] bool
    """False where the photo shows another thing than the mesh has there; True where nothing is known."""
    label = labels.flatten()[source_pixel.clamp_min(0)].long()
    return table[part, label] | (source_pixel < 0)


def colour_range(
    rgb: Tensor,  # [3, H, W]
    mask: Tensor,  # [1, H, W]
) -> tuple[Tensor, Tensor]:  # [3, H, W] twice
    """Lowest and highest colour around each pixel of a view; -1 and 2 around what is not the head."""
    sure = mask > 0.95
    high = spread_max(torch.where(sure, rgb, 2.0), NEIGHBOURS)
    return -spread_max(torch.where(sure, -rgb, 1.0), NEIGHBOURS), high


def colours_agree(
    colours: Tensor,  # [P, 3]
    front_pixel: Tensor,  # [P], -1 unknown
    low: Tensor,  # [3, H, W], of the front view's `colour_range`
    high: Tensor,
) -> Tensor:  # [P] in [0, 1]
    """0 where a view shows another thing on a point than the front view does; 1 where nothing is known."""
    where = front_pixel.clamp_min(0)
    least, most = (t.flatten(1).index_select(1, where).T for t in (low, high))
    beyond = torch.maximum(least - colours, colours - most).amax(1)
    share = ((APART - beyond) / (APART - FREE)).clamp(0, 1)
    return torch.where(front_pixel < 0, 1.0, share)
