"""The photo as a function of surface points: colour, label and how far to trust them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.camera import Camera

# Cosine between surface normal and viewing direction: below the first the photo is not trusted, from the
# second on it is trusted fully. Ours.
GRAZING = (0.08, 0.32)
DEPTH_TOLERANCE = 0.004  # m, on top of the depth range of the 3x3 neighbourhood


@dataclass(frozen=True)
class Photo:
    """The aligned input and what the fitted surface looks like from its camera.

    rgb [3, H, W]; alpha [1, H, W]; labels [H, W] long (avatar.layout's); depth [H, W] m (+inf: no
    surface); camera: the photo's, in the head frame.
    """

    rgb: Tensor
    alpha: Tensor
    labels: Tensor
    depth: Tensor
    camera: Camera

    @cached_property
    def trusted(self) -> Tensor:  # [1, 4, H, W]
        """Colour and how far inside the matte it lies."""
        return torch.cat([self.rgb, usable_alpha(self.alpha)])[None]

    @cached_property
    def furthest(self) -> Tensor:  # [H, W] m
        """Largest depth in each pixel's 3x3 neighbourhood; very negative where there is no surface."""
        finite = torch.where(self.depth.isfinite(), self.depth, self.depth.new_tensor(-1e9))
        return F.max_pool2d(finite[None, None], 3, 1, 1)[0, 0]


@dataclass(frozen=True)
class Samples:
    """Per point: rgb [N, 3], label [N] long, weight [N] in [0, 1], facing [N] = n . v in [-1, 1]."""

    rgb: Tensor
    label: Tensor
    weight: Tensor
    facing: Tensor


def usable_alpha(alpha: Tensor) -> Tensor:  # [1, H, W] -> [1, H, W]
    """Trust inside the matte, none in its soft rim, where foreground and background mix."""
    eroded = -F.max_pool2d(-alpha[None], 3, 1, 1)[0]
    return ((eroded - 0.5) / 0.4).clamp(0, 1)


def sample(photo: Photo, points: Tensor, normals: Tensor) -> Samples:  # [N, 3] m, [N, 3] unit
    """What the photo says of surface points: bilinear colour, nearest label, trust.

    Trust = not hidden (depth test) x not grazing x inside the matte.
    """
    height, width = photo.depth.shape
    pixels, depth = photo.camera.project(points)
    grid = pixels / pixels.new_tensor([width, height]) * 2 - 1
    picked = F.grid_sample(photo.trusted, grid[None, None], padding_mode="zeros", align_corners=False)[
        0, :, 0
    ].T

    x = pixels[:, 0].floor().long()
    y = pixels[:, 1].floor().long()
    framed = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    visible = framed & (depth <= photo.furthest[y, x] + DEPTH_TOLERANCE)

    facing = (normals * photo.camera.view_directions(points)).sum(-1)
    t = ((facing - GRAZING[0]) / (GRAZING[1] - GRAZING[0])).clamp(0, 1)
    weight = t * t * (3 - 2 * t) * visible * picked[:, 3]
    return Samples(picked[:, :3].clamp(0, 1), photo.labels[y, x], weight, facing)
