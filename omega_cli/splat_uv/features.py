"""The view features: RGB and a small fixed multi-scale filter bank (ours, where no encoder is trained)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SIGMAS = (1.0, 2.0, 4.0)  # px at 512
PER_SCALE = ("edge", "blob", "red_green", "blue_yellow")
CHANNELS = ("red", "green", "blue", *(f"{name}_{s:g}" for s in SIGMAS for name in PER_SCALE))


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:  # [C, H, W] -> [C, H, W]
    """Separable Gaussian, zero beyond the border (callers divide by the blurred mask)."""
    radius = max(1, math.ceil(2.5 * sigma))
    x = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = kernel / kernel.sum()
    out = F.conv2d(image[:, None], kernel[None, None, None, :], padding=(0, radius))
    return F.conv2d(out, kernel[None, None, :, None], padding=(radius, 0))[:, 0]


def masked_blur(image: Tensor, mask: Tensor, sigma: float) -> Tensor:  # [C, H, W], [1, H, W]
    """Blur of the masked part alone: what lies outside `mask` gives nothing and takes nothing."""
    blurred = gaussian_blur(torch.cat([image * mask, mask]), sigma)
    return blurred[:-1] / blurred[-1:].clamp_min(1e-4)


def mask_box(mask: Tensor, margin: int) -> tuple[slice, slice]:  # [1, H, W] -> rows, columns
    """The smallest box around the mask, `margin` pixels wider where the picture allows."""
    box = []
    for axis in (1, 0):
        used = torch.nonzero(mask[0].amax(axis) > 0)
        low, high = (int(used.min()), int(used.max()) + 1) if len(used) else (0, 1)
        box.append(slice(max(0, low - margin), min(mask.shape[2 - axis], high + margin)))
    return box[0], box[1]


def filter_bank(rgb: Tensor, mask: Tensor) -> Tensor:  # [3, H, W], [1, H, W] -> [15, H, W]
    """RGB, then per scale: edge strength, blob response and two colour-opponent averages.

    All are independent of the picture's rotation, so views that see a texel at different angles agree.
    Scales are given for 512 px pictures and follow the width. Outside the mask's surroundings all but RGB
    is 0. Differentiable.
    """
    H, W = rgb.shape[1:]
    rows, columns = mask_box(mask, margin=4)
    inner = _responses(rgb[:, rows, columns], mask[:, rows, columns], rgb.shape[-1] / 512)
    around = (columns.start, W - columns.stop, rows.start, H - rows.stop)
    return torch.cat([rgb, F.pad(inner, around)])


def _responses(rgb: Tensor, mask: Tensor, scale: float) -> Tensor:  # -> [12, H, W]
    luminance = (rgb * rgb.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0, keepdim=True)
    opponent = torch.stack([rgb[0] - rgb[1], 0.5 * (rgb[0] + rgb[1]) - rgb[2]])
    channels = []
    for sigma in SIGMAS:
        sigma = sigma * scale
        smooth = masked_blur(torch.cat([luminance, opponent]), mask, max(sigma, 0.5))
        level = F.pad(smooth[:1][None], (1, 1, 1, 1), mode="replicate")[0, 0]
        dx = 0.5 * (level[1:-1, 2:] - level[1:-1, :-2])
        dy = 0.5 * (level[2:, 1:-1] - level[:-2, 1:-1])
        edge = torch.sqrt(dx**2 + dy**2 + 1e-8) * sigma
        around = 0.25 * (level[1:-1, 2:] + level[1:-1, :-2] + level[2:, 1:-1] + level[:-2, 1:-1])
        blob = (around - level[1:-1, 1:-1]) * sigma**2
        channels += [torch.stack([edge, blob]) * mask, smooth[1:] * mask]
    return torch.cat(channels)


def identity_vector(features: Tensor, mask: Tensor) -> Tensor:  # [C, H, W], [1, H, W] -> [2 C]
    """Mean and spread of the front view's features over its mask: the place of the paper's f_id."""
    weight = mask / mask.sum().clamp_min(1e-6)
    mean = (features * weight).sum((1, 2))
    spread = ((features - mean[:, None, None]) ** 2 * weight).sum((1, 2)).clamp_min(0).sqrt()
    return torch.cat([mean, spread])
