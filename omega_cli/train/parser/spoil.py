"""What light, cameras, files and painters do to pictures [B, 3, H, W] sRGB in [0, 1], each picture its own.

`data/studio/degrade` does one picture exactly; this does a batch on a GPU, roughly.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

_LUMA = ((0.299, 0.587, 0.114), (-0.169, -0.331, 0.5), (0.5, -0.419, -0.081))


def some(B: int, device: torch.device, chance: float) -> Tensor:  # [B, 1, 1, 1]
    """1 for that share of a batch, 0 for the others."""
    return (torch.rand(B, 1, 1, 1, device=device) < chance).float()


def amount(B: int, device: torch.device, low: float, high: float) -> Tensor:  # [B]
    return low + (high - low) * torch.rand(B, device=device)


def _normal(B: int, C: int, spread: float, device: torch.device) -> Tensor:  # [B, C, 1, 1]
    return spread * torch.randn(B, C, 1, 1, device=device).clamp(-2.5, 2.5)


def blurred(image: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of sigma [B] px, cut at 9 px."""
    B, C = image.shape[:2]
    x = torch.arange(-9, 10, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (x / sigma.to(image).clamp_min(0.05)[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(C, 0)[:, None]
    flat = image.reshape(1, B * C, *image.shape[2:])
    for weight, pad in ((kernel[:, :, None], (9, 9, 0, 0)), (kernel[..., None], (0, 0, 9, 9))):
        flat = F.conv2d(F.pad(flat, pad, mode="replicate"), weight, groups=B * C)
    return flat.view_as(image)


def relit(image: Tensor) -> Tensor:
    """A soft shadow or gleam across the picture."""
    B, device = len(image), image.device
    field = F.interpolate(torch.randn(B, 1, 3, 3, device=device), image.shape[2:], mode="bicubic")
    return (image * torch.exp(some(B, device, 0.4) * 0.35 * field)).clamp(0, 1)


def recoloured(image: Tensor) -> Tensor:
    """Exposure, contrast, white balance, saturation, grey-scale."""
    B, device = len(image), image.device
    image = image.clamp(1e-3, 1) ** torch.exp(_normal(B, 1, 0.25, device))
    image = image * torch.exp(_normal(B, 1, 0.15, device) + _normal(B, 3, 0.08, device))
    image = (image - 0.45) * torch.exp(_normal(B, 1, 0.18, device)) + 0.45
    grey = image.mean(1, keepdim=True)
    saturation = torch.exp(_normal(B, 1, 0.3, device)) * (1 - some(B, device, 0.1))
    return (grey + saturation * (image - grey)).clamp(0, 1)


def painted(image: Tensor) -> Tensor:
    """Flat patches of few tones, as brushes and printers leave; rarely."""
    B, device = len(image), image.device
    chosen = some(B, device, 0.12)
    smooth = blurred(image, amount(B, device, 0.8, 3.0))
    steps = amount(B, device, 4, 12).view(-1, 1, 1, 1)
    flat = (smooth * steps).round() / steps
    return torch.where(chosen > 0, torch.lerp(smooth, flat, 0.7), image)


@functools.cache
def _cosines(device: torch.device) -> Tensor:  # [8, 8]
    k = torch.arange(8, device=device, dtype=torch.float32)
    table = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) * 0.5
    table[0] /= math.sqrt(2)
    return table


def blocky(image: Tensor) -> Tensor:
    """The loss of a JPEG file: 8 px blocks whose higher frequencies are rounded more. H, W multiples of 8."""
    B, _, H, W = image.shape
    device = image.device
    luma = image.new_tensor(_LUMA)
    planes = torch.einsum("ij,bjhw->bihw", luma, image)
    table = _cosines(device)
    blocks = planes.view(B, 3, H // 8, 8, W // 8, 8).permute(0, 1, 2, 4, 3, 5)
    waves = (blocks @ table.T).mT @ table.T  # columns first: one large product each; steps are symmetric
    frequency = torch.arange(8, device=device, dtype=image.dtype)
    coarse = amount(B, device, 0.004, 0.06) * some(B, device, 0.5).flatten()
    step = coarse.view(-1, 1, 1, 1, 1, 1) * (1 + 0.9 * (frequency[:, None] + frequency[None]))
    step = (step * image.new_tensor([1.0, 1.8, 1.8]).view(1, 3, 1, 1, 1, 1)).clamp_min(1e-4)
    waves = (waves / step).round() * step
    planes = ((waves @ table).mT @ table).permute(0, 1, 2, 4, 3, 5).reshape(B, 3, H, W)
    return torch.einsum("ij,bjhw->bihw", torch.linalg.inv(luma), planes).clamp(0, 1)


def coarser(image: Tensor) -> Tensor:
    """Pictures taken smaller and enlarged again: a factor for each quarter of the batch."""
    parts = []
    for part in image.chunk(4):
        factor = float(torch.rand(())) * 1.6
        if factor < 0.8:
            small = F.interpolate(part, scale_factor=0.25 + factor * 0.8, mode="bilinear", antialias=True)
            part = F.interpolate(small, image.shape[2:], mode="bicubic").clamp(0, 1)
        parts.append(part)
    return torch.cat(parts)


def noisy(image: Tensor) -> Tensor:
    B, device = len(image), image.device
    spread = (some(B, device, 0.5).flatten() * amount(B, device, 0, 0.06)).view(-1, 1, 1, 1)
    grain = torch.randn_like(image)
    grain = torch.lerp(grain, grain.mean(1, keepdim=True) * 1.7, some(B, device, 0.5))
    return (image + spread * grain).clamp(0, 1)


def photograph(image: Tensor) -> Tensor:
    """All of the above, mild to strong."""
    B, device = len(image), image.device
    image = painted(recoloured(relit(image)))
    image = coarser(blurred(image, some(B, device, 0.4).flatten() * amount(B, device, 0.3, 2.2)))
    return blocky(noisy(image))
