"""Structural similarity (Wang, Bovik, Sheikh and Simoncelli 2004)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.metrics.pairs import prepared, region_mean

C1, C2 = 0.01**2, 0.03**2  # (K1 L)², (K2 L)² with the paper's K1 = .01, K2 = .03 and the range L = 1
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def ssim(
    a: Tensor,  # [B, 3, H, W] in [0, 1]
    b: Tensor,  # [B, 3, H, W]
    mask: Tensor | None = None,  # [B, 1, H, W]
    *,
    window: int = 11,
    sigma: float = 1.5,
    grey: bool = False,
) -> Tensor:  # [B]
    """Mean SSIM in [-1, 1]: Gaussian window (11 px, sigma 1.5: the paper's), mean of the channels' values.

    Only windows that lie wholly inside the picture count (as in the paper's code, scikit-image and
    torchmetrics; 3DGS's own code pads with zeros instead). `grey` measures the BT.601 luma alone, as
    GAGAvatar does. With a mask the windows centred in it count, on pictures that are black outside it.
    """
    if window % 2 != 1 or window < 3 or not sigma > 0:
        raise ValueError(f"window must be odd and at least 3 and sigma positive, got {window} and {sigma}")
    a, b, mask = prepared(a, b, mask)
    if min(a.shape[2:]) < window:
        raise ValueError(f"images must be at least {window} px wide and high, got {list(a.shape[2:])}")
    if grey:
        weights = a.new_tensor(LUMA).reshape(1, 3, 1, 1)
        a, b = (a * weights).sum(1, keepdim=True), (b * weights).sum(1, keepdim=True)
    if not len(a):
        return a.new_zeros(0)
    inset = window // 2
    inner = None if mask is None else mask[:, :, inset:-inset, inset:-inset]
    return region_mean(ssim_map(a, b, window, sigma), inner)


def ssim_map(
    a: Tensor,  # [B, C, H, W]
    b: Tensor,  # [B, C, H, W]
    window: int,
    sigma: float,
) -> Tensor:  # [B, C, H - window + 1, W - window + 1]
    """SSIM of each window that lies inside the picture."""
    moments = torch.cat([a, b, a * a, b * b, a * b])
    mean_a, mean_b, aa, bb, ab = _blurred(moments, window, sigma).chunk(5)
    var_a = (aa - mean_a.square()).clamp_min(0)  # rounding may leave a flat patch below 0
    var_b = (bb - mean_b.square()).clamp_min(0)
    covariance = ab - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a.square() + mean_b.square() + C1)
    return luminance * (2 * covariance + C2) / (var_a + var_b + C2)


def _blurred(x: Tensor, window: int, sigma: float) -> Tensor:
    """x under a normalised Gaussian window, valid part only."""
    offsets = torch.arange(window, dtype=x.dtype, device=x.device) - window // 2
    kernel = torch.exp(-0.5 * (offsets / sigma).square())
    kernel = kernel / kernel.sum()
    groups = x.shape[0] * x.shape[1]  # a group a plane: six times as fast on a CPU as a batch of planes
    planes = x.reshape(1, groups, *x.shape[2:])
    planes = F.conv2d(planes, kernel.reshape(1, 1, window, 1).repeat(groups, 1, 1, 1), groups=groups)
    planes = F.conv2d(planes, kernel.reshape(1, 1, 1, window).repeat(groups, 1, 1, 1), groups=groups)
    return planes.reshape(*x.shape[:2], *planes.shape[2:])
