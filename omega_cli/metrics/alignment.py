"""Where a face recognition network wants a face: five points on a 112 px template."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 112
TEMPLATE = (  # px in the 112² crop: eye, eye (left to right in the picture), nose, mouth corners
    (38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041),
)  # ArcFace's and SFace's (Deng et al. 2019), pixel centres at whole numbers  # fmt: skip

_SMALLEST = 1e-8  # a similarity's squared scale: points that all but coincide have none


def similarity(points: Tensor) -> Tensor:  # [B, 5, 2] -> [B, 2, 3]
    """The similarity [a, -b, x; b, a, y] that takes points nearest to TEMPLATE, by least squares.

    Points and template are px with centres at whole numbers. Differentiable.
    """
    template = _template(points.dtype, points.device)
    middle, centre = points.mean(1, keepdim=True), template.mean(0)
    p, q = points - middle, template - centre
    square = p.square().sum((1, 2)).clamp_min(_SMALLEST)
    a = (p * q).sum((1, 2)) / square
    b = (p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0]).sum(1) / square
    turn = torch.stack([torch.stack([a, -b], 1), torch.stack([b, a], 1)], 1)
    return torch.cat([turn, centre[:, None] - turn @ middle.transpose(1, 2)], 2)


@functools.cache
def _template(dtype: torch.dtype, device: torch.device) -> Tensor:  # [5, 2]
    """Kept, as a copy would wait for a GPU."""
    with torch.inference_mode(False):
        return torch.tensor(TEMPLATE, dtype=dtype, device=device)


def aligned(
    images: Tensor,  # [B, C, H, W]
    points: Tensor,  # [B, 5, 2] px, pixel centres at whole numbers
    samples: int = 1,
) -> Tensor:  # [B, C, 112, 112]
    """The faces on the template, sampled bilinearly, black beyond the picture; differentiable.

    samples: a side of each pixel, of which the mean is taken: a face that is shrunk has gaps otherwise, in
    which the picture has no gradient.
    """
    matrix, side = similarity(points), SIDE * samples
    steps = (torch.arange(side, dtype=points.dtype, device=points.device) + 0.5) / samples - 0.5
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    a, b = matrix[:, 0, 0, None, None], matrix[:, 1, 0, None, None]
    right, down = x - matrix[:, 0, 2, None, None], y - matrix[:, 1, 2, None, None]
    scale = (a.square() + b.square()).clamp_min(_SMALLEST)
    column, row = (a * right + b * down) / scale, (a * down - b * right) / scale
    H, W = images.shape[2:]
    grid = torch.stack([(2 * column + 1) / W - 1, (2 * row + 1) / H - 1], -1)
    faces = F.grid_sample(images, grid.to(images.dtype), "bilinear", "zeros", align_corners=False)
    return F.avg_pool2d(faces, samples) if samples > 1 else faces


def five_points(ibug68: Tensor) -> Tensor:  # [..., 68, 2] -> [..., 5, 2]
    """Eyes, nose and mouth corners among iBUG's 68 landmarks."""
    eyes = [ibug68[..., first : first + 6, :].mean(-2) for first in (36, 42)]
    return torch.stack([*eyes, ibug68[..., 30, :], ibug68[..., 48, :], ibug68[..., 54, :]], -2)
