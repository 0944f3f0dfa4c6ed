"""Bilinear splatting into a UV pyramid, and the coarse-to-fine fill (paper 3.3, eq. 4 and 5).

Read as the pull and push of scattered samples (Gortler et al. 1996, "The Lumigraph", 6.1): sums and weights
are added up into coarser levels, then holes are filled from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.kernels.uv_splat import uv_splat, uv_splat_pyramid

FILL_SHARPNESS = 4.0  # ours: a texel that caught a quarter of a pixel is already 63 % its own
ROUNDING = 1e-4  # a texel centre in float32 lands this far, at most, in the next texel


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator where the denominator is positive, 0 elsewhere; finite gradients."""
    return numerator * inverse(denominator)


def inverse(density: Tensor) -> Tensor:
    """1 / density where it is positive, 0 elsewhere; finite gradients."""
    positive = density > 0
    return positive / (density + ~positive)


@dataclass(frozen=True)
class UVPyramid:
    """One view splatted at L levels, finest first; level l is [*, R / 2^l, R / 2^l].

    sums U_{k,l} [C, h, w], density D_{k,l} [1, h, w] (pixels caught), confidence C_{k,l} [1, h, w]
    (sum of cosines, eq. 5). K views of one size may be held together, with a leading dimension.
    """

    sums: list[Tensor]
    density: list[Tensor]
    confidence: list[Tensor]

    def means(self) -> list[Tensor]:
        """U_{k,l} / D_{k,l}: eq. 7 averages means, not sums (open reading a)."""
        return [ratio(s, d) for s, d in zip(self.sums, self.density, strict=True)]

    def views(self) -> list[UVPyramid]:
        """Each of the views that are held together."""
        if self.density[0].ndim == 3:
            return [self]
        parts = [zip(*levels, strict=True) for levels in (self.sums, self.density, self.confidence)]
        return [UVPyramid(*map(list, of_view)) for of_view in zip(*parts, strict=True)]

    def batched(self) -> UVPyramid:
        """The same with the leading dimension, for one view too."""
        if self.density[0].ndim == 4:
            return self
        parts = (self.sums, self.density, self.confidence)
        return UVPyramid(*([level[None] for level in levels] for levels in parts))


def splat_pyramid(
    features: Tensor,  # [P, C]
    cosine: Tensor,  # [P]
    reliability: Tensor,  # [P]
    uv: Tensor,  # [P, 2]
    size: int,
    levels: int,
    *,
    splat: Literal["bilinear", "nearest"] = "bilinear",
    backend: str = "auto",
) -> UVPyramid:
    """Eq. 4 and 5 at every level: one splat of [features | 1 | max(0, n.v)], then sums of two by two texels.

    Splatting at each level anew, as the paper can be read too, makes coarse kernels twice as wide as their
    texels; here they are as wide as the texel and a little of the finest (`uv_splat_pyramid`; docs/paper.md).
    reliability [P] in [0, 1] scales a pixel's whole contribution (mask alpha, edges). "nearest" gives each
    pixel to the one texel it falls in and fixes the density of every hit texel to 1 (Tab. 3); the mean of
    the pixels of a texel is kept. K views of P pixels each may be given together, with a leading dimension.
    """
    one = features.ndim == 2
    if one:
        features, cosine, reliability, uv = (t[None] for t in (features, cosine, reliability, uv))
    marks = torch.stack([torch.ones_like(cosine), cosine.clamp_min(0)], dim=-1)  # for density, confidence
    if splat == "bilinear":
        out = uv_splat_pyramid(
            features, uv, (size, size), levels, weight=reliability, extra=marks, backend=backend
        )
    else:
        values = torch.cat([features, marks], dim=-1) * reliability[..., None]
        out = [_nearest(values, uv, size >> level, backend) for level in range(levels)]
    out = [(sums[0], extra[0]) if one else (sums, extra) for sums, extra in out]
    return UVPyramid(*map(list, zip(*((s, *e.split(1, dim=-3)) for s, e in out), strict=True)))


def _nearest(values: Tensor, uv: Tensor, side: int, backend: str) -> tuple[Tensor, Tensor]:
    """Means of the pixels in each texel and [density 1, mean cosine]; 0 where there are none."""
    out = uv_splat(values, ((uv * side).floor() + 0.5) / side, (side, side), backend=backend)
    density = torch.where(out[:, -2:-1] > ROUNDING, out[:, -2:-1], 0.0)
    marks = torch.cat([(density > 0).to(density), ratio(out[:, -1:], density)], dim=1)
    return ratio(out[:, :-2], density), marks


def upsample(image: Tensor, size: int) -> Tensor:  # [..., C, h, w] -> [..., C, size, size]
    """Bilinear, texel centres at +0.5."""
    if image.shape[-1] == size:
        return image
    flat = image.reshape(-1, *image.shape[-3:])
    up = F.interpolate(flat, size=(size, size), mode="bilinear", align_corners=False)
    return up.reshape(*image.shape[:-2], size, size)


def _held(density: Tensor) -> Tensor:
    """Soft mask 1 - exp(-s D) in [0, 1): how much a texel trusts its own samples."""
    return -torch.expm1(-FILL_SHARPNESS * density)


def upsample_sums(sums: Tensor, density: Tensor, size: int) -> tuple[Tensor, Tensor]:  # [..., C or 1, h, w]
    """Two full-size maps whose ratio is the upsampled mean sums / density: an empty texel (density 0) has no
    part in either, and so does not darken its neighbours."""
    if sums.shape[-1] == size:
        return sums, density
    held = _held(density)
    return upsample(sums * (held * inverse(density)), size), upsample(held, size)


def fill_masks(density: list[Tensor]) -> list[Tensor]:
    """How much of each full-size texel comes from each level: L maps [..., 1, R, R] that sum to <= 1.

    Level l keeps m_l = 1 - exp(-s D_l) of what the finer levels left over: pi_l = m_l prod_{j<l} (1 - m_j).
    Sparse texels are so filled from coarser ones without a visible switch.
    """
    size = density[0].shape[-1]
    first, *coarser = _held(torch.cat([upsample(d, size) for d in density], dim=-3)).split(1, dim=-3)
    masks, left = [first], 1 - first
    for held in coarser:
        masks.append(left * held)
        left = left - masks[-1]
    return masks


def fill_holes(sums: list[Tensor], density: list[Tensor]) -> tuple[Tensor, Tensor]:
    """One view's completed UV map [C, R, R] and how far it is filled at all [1, R, R] in [0, 1]."""
    size = sums[0].shape[-1]
    masks = fill_masks(density)
    total = torch.stack(masks).sum(0)
    mixed = torch.zeros_like(sums[0])
    for mask, level_sums, level_density in zip(masks, sums, density, strict=True):
        mixed = mixed + mask * ratio(*upsample_sums(level_sums, level_density, size))
    return ratio(mixed, total), total
