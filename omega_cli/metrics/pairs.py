"""What all image metrics share: what a pair of pictures is, and what a mask does to it."""

from __future__ import annotations

import torch
from torch import Tensor

_ROUNDING = 1e-4  # a sum of alphas may pass 1 by this much


def check_images(name: str, images: Tensor) -> None:
    """Raise ValueError unless `images` is a floating, finite [B, 3, H, W] in [0, 1]."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"{name} must be images [B, 3, H, W], got {list(images.shape)}")
    if not images.is_floating_point():
        raise ValueError(f"{name} must be floating, in [0, 1], got {images.dtype}: divide bytes by 255")
    if images.numel():
        _check_range(name, images)


def _check_range(name: str, values: Tensor) -> None:
    low, high = (float(v) for v in torch.aminmax(values.detach()))
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # NaN fails as well
        raise ValueError(f"{name} must be in [0, 1], got {low:.4g} to {high:.4g}")


def check_pair(a: Tensor, b: Tensor, mask: Tensor | None) -> None:
    """Raise ValueError unless a and b are images of one shape, and mask (if any) their [B, 1, H, W]."""
    check_images("a", a)
    check_images("b", b)
    if a.shape != b.shape:
        raise ValueError(f"a and b must have one shape, got {list(a.shape)} and {list(b.shape)}")
    if mask is None:
        return
    B, _, H, W = a.shape
    if mask.shape != (B, 1, H, W):
        raise ValueError(f"mask must be [{B}, 1, {H}, {W}] like the images, got {list(mask.shape)}")
    if not mask.is_floating_point():
        raise ValueError(f"mask must be floating, in [0, 1], got {mask.dtype}")
    if mask.numel():
        _check_range("mask", mask)


def prepared(a: Tensor, b: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """The checked pair in float32 or finer, black outside the mask where there is one."""
    check_pair(a, b, mask)
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    a, b = a.to(dtype), b.to(dtype)
    if mask is None:
        return a, b, None
    mask = mask.to(dtype)
    return a * mask, b * mask, mask


def region_mean(
    values: Tensor,  # [B, C, h, w]
    mask: Tensor | None,  # [B, 1, h, w]
) -> Tensor:  # [B]
    """Mean over channels and pixels, the pixels weighed by the mask; NaN where the mask is empty."""
    if mask is None:
        return values.mean((1, 2, 3))
    return (values.mean(1, keepdim=True) * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))
