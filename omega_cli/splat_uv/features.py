"""The view features: RGB and a small fixed multi-scale filter bank (ours, where no encoder is trained)."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

SIGMAS = (1.0, 2.0, 4.0)  # px at 512
PER_SCALE = ("edge", "blob", "red_green", "blue_yellow")
CHANNELS = ("red", "green", "blue", *(f"{name}_{s:g}" for s in SIGMAS for name in PER_SCALE))


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:  # [K, C, H, W] -> [K, C, H, W]
    """Separable Gaussian, zero beyond the border (callers divide by the blurred mask)."""
    kernel = _gaussian(sigma, image.dtype, image.device)
    C, radius = image.shape[1], len(kernel) // 2
    # one group a channel: torch's own depthwise code, which never rounds to TF32
    out = F.conv2d(image, kernel.expand(C, 1, 1, -1), padding=(0, radius), groups=C)
    return F.conv2d(out, kernel[:, None].expand(C, 1, -1, 1), padding=(radius, 0), groups=C)


@functools.cache
def _gaussian(sigma: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Normalised samples, 2 radius + 1; kept, being the same for every view."""
    radius = max(1, math.ceil(2.5 * sigma))
    with torch.inference_mode(False):
        x = torch.arange(-radius, radius + 1, dtype=dtype, device=device)
        kernel = torch.exp(-0.5 * (x / sigma) ** 2)
        return kernel / kernel.sum()


@functools.cache
def _sigmas(scale: float, dtype: torch.dtype, device: torch.device) -> Tensor:  # [S, 1, 1] px
    """SIGMAS in a picture `scale` times as wide as 512 px; kept, as a copy would wait for a GPU."""
    with torch.inference_mode(False):
        return torch.tensor(SIGMAS, dtype=dtype, device=device)[:, None, None] * scale


def masked_blurs(image: Tensor, mask: Tensor, scale: float) -> Tensor:  # [K, C, H, W], [K, 1, H, W]
    """Blurs [K, S, C, H, W], by SIGMAS times `scale`, of the masked part alone: what lies outside `mask`
    gives nothing and takes nothing."""
    weighted = torch.cat([image * mask, mask], dim=1)
    blurred = torch.stack([gaussian_blur(weighted, max(sigma * scale, 0.5)) for sigma in SIGMAS], dim=1)
    return blurred[:, :, :-1] / blurred[:, :, -1:].clamp_min(1e-4)


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
    Scales are given for 512 px pictures and follow the width. Outside the mask all but RGB is 0.
    Differentiable.
    """
    H, W = rgb.shape[1:]
    rows, columns = mask_box(mask, margin=4)
    inner = _responses(rgb[None, :, rows, columns], mask[None, :, rows, columns], W / 512)[0]
    around = (columns.start, W - columns.stop, rows.start, H - rows.stop)
    return torch.cat([rgb, F.pad(inner, around)])


def filter_banks(
    rgb: Sequence[Tensor],  # K of [3, H, W]
    mask: Sequence[Tensor],  # K of [1, H, W]
    *,
    together: bool = False,
) -> list[Tensor]:
    """`filter_bank` of several views; together: as one [K, 15, H, W], and whole, as finding a mask's box
    would wait for a GPU."""
    if not together:
        return [filter_bank(image, its_mask) for image, its_mask in zip(rgb, mask, strict=True)]
    images, masks = torch.stack(list(rgb)), torch.stack(list(mask))
    return [torch.cat([images, _responses(images, masks, images.shape[-1] / 512)], dim=1)]


def _responses(rgb: Tensor, mask: Tensor, scale: float) -> Tensor:  # -> [K, 12, H, W]
    red, green, blue = rgb.split(1, dim=1)
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    coloured = torch.cat([luminance, red - green, 0.5 * (red + green) - blue], dim=1)
    smooth, sigma = masked_blurs(coloured, mask, scale), _sigmas(scale, rgb.dtype, rgb.device)
    middle = smooth[:, :, 0]
    level = F.pad(middle, (1, 1, 1, 1), mode="replicate")
    left, right = level[..., 1:-1, :-2], level[..., 1:-1, 2:]
    above, below = level[..., :-2, 1:-1], level[..., 2:, 1:-1]
    across, down = right - left, below - above
    # sqrt((across / 2)^2 + (down / 2)^2 + 1e-8) * sigma; then (mean of the four - middle) * sigma^2
    edge = torch.sqrt(torch.addcmul(1e-8 * sigma**2, torch.addcmul(across**2, down, down), sigma**2 / 4))
    blob = torch.sub(right + left + below + above, middle, alpha=4) * (sigma**2 / 4)
    return torch.cat([edge[:, :, None], blob[:, :, None], smooth[:, :, 1:]], dim=2).flatten(1, 2) * mask


def identity_vector(features: Tensor, mask: Tensor) -> Tensor:  # [C, H, W], [1, H, W] -> [2 C]
    """Mean and spread of the front view's features over its mask: the place of the paper's f_id."""
    weight = mask / mask.sum().clamp_min(1e-6)
    mean = (features * weight).sum((1, 2))
    spread = ((features - mean[:, None, None]) ** 2 * weight).sum((1, 2)).clamp_min(0).sqrt()
    return torch.cat([mean, spread])
