"""From view features and pixel samples to the one canonical UV map (paper 3.3 in one call)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from omega_cli.splat_uv.fusion import fuse_views
from omega_cli.splat_uv.pixels import PixelSamples
from omega_cli.splat_uv.pyramid import UVPyramid, splat_pyramid


@dataclass(frozen=True)
class UVMap:
    """features [C, R, R]; weight [1, R, R], what the finest level earned (0: never seen); the pyramids, of
    one view each or of several together."""

    features: Tensor
    weight: Tensor
    pyramids: list[UVPyramid]


def canonical_map(
    features: Sequence[Tensor],  # [C, H, W] each, or [k, C, H, W] where samples are held together
    samples: Sequence[PixelSamples],  # of one view each, or of several together; K views in all
    view_weights: Sequence[float] | Tensor,  # K, gamma_k
    *,
    uv_size: int = 256,
    levels: int = 5,
    splat: Literal["bilinear", "nearest"] = "bilinear",
    hierarchical: bool = True,
    visibility_fusion: bool = True,
    confidence_power: float = 1.0,
    backend: str = "auto",
) -> UVMap:
    """Splat every view into its pyramid, then fuse (eq. 4 to 7). Differentiable to the features.

    hierarchical False keeps the finest level alone. The switches are Table 3's rows; "single view" is a
    call with one view.
    """
    levels = levels if hierarchical else 1
    settings: dict[str, Any] = {"size": uv_size, "levels": levels, "splat": splat, "backend": backend}
    pyramids = [
        splat_pyramid(s.gather(image), s.cosine, s.reliability, s.uv, **settings)
        for image, s in zip(features, samples, strict=True)
    ]
    fused, weight = fuse_views(
        pyramids, view_weights, visibility=visibility_fusion, confidence_power=confidence_power
    )
    return UVMap(fused, weight, pyramids)
