"""Visibility-aware fusion of the views' UV pyramids (paper 3.3, eq. 6 and 7)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from omega_cli.splat_uv.pyramid import UVPyramid, fill_masks, inverse, ratio, upsample_sums

COARSE_WEIGHT = 0.05  # ours: what a level counts against the next finer one, over all views


def fusion_weights(
    densities: list[Tensor],  # L of [K, 1, R / 2^l, R / 2^l]
    cosines: Tensor | None,  # [K, L, R, R], mean cosines at full size
    view_weights: Tensor,  # [K, 1, 1, 1]
    power: float = 1.0,
) -> Tensor:  # [K, L, R, R]
    """W_{k,l} = gamma_k C_{k,l} * D_{k,l} (eq. 6).

    C enters as the mean cosine (eq. 5, reading b) to `power`: 1 is the paper's; a higher one (ours) lets
    the view that faces a texel win more clearly. D enters as the share of the texel that level l supplies
    (`fill_masks`), times COARSE_WEIGHT^l: raw densities grow fourfold per level, so taken literally the
    coarsest level would win everywhere, and a view would spread its coarse colours over texels that
    another view sees sharply (our reading). cosines None is Tab. 3's "w/o visibility-aware fusion":
    density alone.
    """
    weights = [mask * COARSE_WEIGHT**level for level, mask in enumerate(fill_masks(densities))]
    shares = torch.cat(weights, dim=1)
    return shares if cosines is None else view_weights * cosines.clamp_min(0) ** power * shares


def fuse_views(
    pyramids: Sequence[UVPyramid],  # of one view each, or of several held together
    view_weights: Sequence[float] | Tensor,  # K, gamma_k
    *,
    visibility: bool = True,
    confidence_power: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Eq. 7: the canonical map U [C, R, R] and the weight [1, R, R] that the finest level earned in it.

    The mean over views and levels of U_{k,l} / D_{k,l} (reading a), weighted by eq. 6. Texels that no level
    of any view reached are 0 with weight 0. Constant features come out as that constant.
    """
    finest = pyramids[0].density[0]
    size = finest.shape[-1]
    groups = [pyramid.batched() for pyramid in pyramids]
    gamma = torch.as_tensor(view_weights, dtype=finest.dtype, device=finest.device).view(-1, 1, 1, 1)
    total = mixed = seen = finest.new_zeros(1, size, size)
    of_groups = gamma.split([len(group.density[0]) for group in groups])
    for pyramid, gammas in zip(groups, of_groups, strict=True):
        # Mean features and, as the last channel, mean cosines (C of eq. 5, reading b), at full size
        sums, held = zip(
            *(
                upsample_sums(torch.cat(parts, dim=1), density, size)
                for *parts, density in zip(pyramid.sums, pyramid.confidence, pyramid.density, strict=True)
            ),
            strict=True,
        )
        divided = inverse(torch.cat(held, dim=1))
        cosines = torch.cat([level[:, -1:] for level in sums], dim=1) * divided if visibility else None
        weights = fusion_weights(pyramid.density, cosines, gammas, confidence_power)
        for level, share in zip(sums, (weights * divided).split(1, dim=1), strict=True):
            mixed = mixed + (level[:, :-1] * share).sum(0)
        total = total + weights.sum((0, 1))
        seen = seen + weights[:, :1].sum(0)
    return ratio(mixed, total), seen
