"""Pictures that Gaussians are fitted to: photo and views, and where each says something of the head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.geometry.camera import Camera

BODY = (
    11,
    12,
    13,
)  # of layout.PARSING_LABELS: neck, necklace, cloth. Beyond the mesh they are not the avatar's
RIM = 2  # px around them: half body, half backdrop
THIN = 4  # px: half of what the avatar's outline may be off to be mended


@dataclass(frozen=True)
class Picture:
    """camera; colour [3, H, W]: over black; alpha, known [1, H, W] in [0, 1]; vertices [V, 3] m: how the head
    stands in it."""

    camera: Camera
    colour: Tensor
    alpha: Tensor
    known: Tensor
    vertices: Tensor

    def over(self, background: Tensor) -> Tensor:  # [3] -> [3, H, W]
        return self.colour + (1 - self.alpha) * background[:, None, None]


def photo_picture(
    rgba: Tensor,  # [4, H, W]
    area: Tensor,  # [H, W] in [0, 1]: 0 beyond the photo's edge
    labels: Tensor,  # [H, W], or of another size
    mesh: Tensor,  # [H, W] in [0, 1], what the head's mesh covers
    camera: Camera,
    vertices: Tensor,
) -> Picture:
    """The photo; shoulders beyond the mesh are nobody's, and what is thicker than an outline's error is let
    be: whole locks that other views have would become a grid of holes."""
    if labels.shape != rgba.shape[1:]:
        labels = F.interpolate(labels[None, None].float(), rgba.shape[1:], mode="nearest-exact")[0, 0].long()
    body = grown(torch.isin(labels, torch.tensor(BODY, device=labels.device)).to(rgba), RIM)
    beyond = body * (1 - grown(mesh, RIM))
    absent = mesh * (rgba[3] < 0.5)
    thick = grown(1 - grown(1 - absent, THIN), THIN + RIM)
    known = area.to(rgba) * (1 - beyond) * (1 - thick)
    return Picture(camera, rgba[:3] * rgba[3:], rgba[3:], known[None], vertices)


def grown(mask: Tensor, by: int) -> Tensor:  # [H, W] in [0, 1], px
    """The mask, wider on all sides."""
    return F.max_pool2d(mask[None, None], 2 * by + 1, 1, by)[0, 0]


def view_picture(rgb: Tensor, mask: Tensor, camera: Camera, vertices: Tensor) -> Picture:
    """One of the six views: rgb [3, H, W] on white, mask [1, H, W]. On another ground, in views of one's own,
    colours are cut to what the mask allows."""
    colour = (rgb - (1 - mask)).clamp_min(0).minimum(mask)
    return Picture(camera, colour, mask, torch.ones_like(mask), vertices)
