"""Visibility-aware fusion of the views' UV pyramids (paper 3.3, eq. 6 and 7)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from omega_cli.splat_uv.pyramid import UVPyramid, fill_masks, ratio, upsample_mean

COARSE_WEIGHT = 0.05  # ours: what a level counts against the next finer one, over all views


def view_confidence(pyramid: UVPyramid, power: float = 1.0) -> list[Tensor]:
    """C_{k,l} for eq. 6 at full size: L maps [1, R, R], the mean cosine (eq. 5, reading b) to `power`.

    power 1 is the paper's; a higher one (ours) lets the view that faces a texel win more clearly.
    """
    size = pyramid.density[0].shape[-1]
    return [
        upsample_mean(cosine, density, size).clamp_min(0) ** power
        for cosine, density in zip(pyramid.cosines(), pyramid.density, strict=True)
    ]


def fusion_weights(
    densities: list[Tensor],  # L of [1, R / 2^l, R / 2^l]
    confidences: list[Tensor] | None,  # L of [1, R, R]
    view_weight: float,
) -> list[Tensor]:
    """W_{k,l} = gamma_k C_{k,l} * D_{k,l} (eq. 6), L maps [1, R, R].

    D enters as the share of the texel that level l supplies (`fill_masks`), times COARSE_WEIGHT^l: raw
    densities grow fourfold per level, so taken literally the coarsest level would win everywhere, and a
    view would spread its coarse colours over texels that another view sees sharply (our reading).
    confidences None is Tab. 3's "w/o visibility-aware fusion": density alone.
    """
    weights = [mask * COARSE_WEIGHT**level for level, mask in enumerate(fill_masks(densities))]
    if confidences is None:
        return weights
    return [view_weight * c * w for c, w in zip(confidences, weights, strict=True)]


def fuse_views(
    pyramids: Sequence[UVPyramid],
    view_weights: Sequence[float],
    *,
    visibility: bool = True,
    confidence_power: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Eq. 7: the canonical map U [C, R, R] and the weight [1, R, R] that the finest level earned in it.

    The mean over views and levels of U_{k,l} / D_{k,l} (reading a), weighted by eq. 6. Texels that no level
    of any view reached are 0 with weight 0. Constant features come out as that constant.
    """
    size = pyramids[0].density[0].shape[-1]
    total = mixed = seen = pyramids[0].density[0].new_zeros(1, size, size)
    for pyramid, gamma in zip(pyramids, view_weights, strict=True):
        confidences = view_confidence(pyramid, confidence_power) if visibility else None
        weights = fusion_weights(pyramid.density, confidences, gamma)
        for mean, density, weight in zip(pyramid.means(), pyramid.density, weights, strict=True):
            mixed = mixed + weight * upsample_mean(mean, density, size)
            total = total + weight
        seen = seen + weights[0]
    return ratio(mixed, total), seen
