"""Bilinear splatting into a UV pyramid, and the coarse-to-fine fill (paper 3.3, eq. 4 and 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.kernels.uv_splat import uv_splat

FILL_SHARPNESS = 4.0  # ours: a texel that caught a quarter of a pixel is already 63 % its own
ROUNDING = 1e-4  # a texel centre in float32 lands this far, at most, in the next texel


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator where the denominator is positive, 0 elsewhere; finite gradients."""
    positive = denominator > 0
    return torch.where(positive, numerator / torch.where(positive, denominator, 1.0), 0.0)


@dataclass(frozen=True)
class UVPyramid:
    """One view splatted at L levels, finest first; level l is [*, R / 2^l, R / 2^l].

    sums U_{k,l} [C, h, w], density D_{k,l} [1, h, w] (pixels caught), confidence C_{k,l} [1, h, w]
    (sum of cosines, eq. 5).
    """

    sums: list[Tensor]
    density: list[Tensor]
    confidence: list[Tensor]

    def means(self) -> list[Tensor]:
        """U_{k,l} / D_{k,l}: eq. 7 averages means, not sums (open reading a)."""
        return [ratio(s, d) for s, d in zip(self.sums, self.density, strict=True)]

    def cosines(self) -> list[Tensor]:
        """Mean cosine per texel [1, h, w] in [0, 1]: eq. 5's sum without its density (open reading b)."""
        return [ratio(c, d) for c, d in zip(self.confidence, self.density, strict=True)]


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
    """Eq. 4 and 5 at every level, each with one splat of [features | 1 | max(0, n.v)].

    reliability [P] in [0, 1] scales a pixel's whole contribution (mask alpha, edges). "nearest" gives each
    pixel to the one texel it falls in and fixes the density of every hit texel to 1 (Tab. 3); the mean of
    the pixels of a texel is kept.
    """
    values = torch.cat([features, torch.ones_like(cosine)[:, None], cosine.clamp_min(0)[:, None]], dim=1)
    values = (values * reliability[:, None])[None]
    sums, densities, confidences = [], [], []
    for level in range(levels):
        side = size >> level
        where = uv if splat == "bilinear" else ((uv * side).floor() + 0.5) / side
        out = uv_splat(values, where[None], (side, side), backend=backend)[0]
        total, density, confidence = out[:-2], out[-2:-1], out[-1:]
        if splat == "nearest":
            density = torch.where(density > ROUNDING, density, 0.0)
            total, confidence = ratio(total, density), ratio(confidence, density)
            density = (density > 0).to(density)
        sums.append(total)
        densities.append(density)
        confidences.append(confidence)
    return UVPyramid(sums, densities, confidences)


def upsample(image: Tensor, size: int) -> Tensor:  # [C, h, w] -> [C, size, size]
    """Bilinear, texel centres at +0.5."""
    if image.shape[-1] == size:
        return image
    return F.interpolate(image[None], size=(size, size), mode="bilinear", align_corners=False)[0]


def _held(density: Tensor) -> Tensor:
    """Soft mask 1 - exp(-s D) in [0, 1): how much a texel trusts its own samples."""
    return -torch.expm1(-FILL_SHARPNESS * density)


def upsample_mean(mean: Tensor, density: Tensor, size: int) -> Tensor:  # [C, h, w] -> [C, size, size]
    """Upsample a mean map without letting its empty texels (density 0) darken their neighbours."""
    if mean.shape[-1] == size:
        return mean
    held = _held(density)
    weight = upsample(held, size)
    return ratio(upsample(mean * held, size), weight)


def fill_masks(density: list[Tensor]) -> list[Tensor]:
    """How much of each full-size texel comes from each level: L maps [1, R, R] that sum to <= 1.

    Level l keeps m_l = 1 - exp(-s D_l) of what the finer levels left over: pi_l = m_l prod_{j<l} (1 - m_j).
    Sparse texels are so filled from coarser ones without a visible switch.
    """
    size = density[0].shape[-1]
    left = torch.ones_like(density[0])
    masks = []
    for level_density in density:
        held = _held(upsample(level_density, size))
        masks.append(left * held)
        left = left * (1 - held)
    return masks


def fill_holes(means: list[Tensor], density: list[Tensor]) -> tuple[Tensor, Tensor]:
    """One view's completed UV map [C, R, R] and how far it is filled at all [1, R, R] in [0, 1]."""
    size = means[0].shape[-1]
    masks = fill_masks(density)
    total = torch.stack(masks).sum(0)
    mixed = torch.zeros_like(means[0])
    for mask, mean, level_density in zip(masks, means, density, strict=True):
        mixed = mixed + mask * upsample_mean(mean, level_density, size)
    return ratio(mixed, total), total
