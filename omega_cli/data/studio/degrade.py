"""What cameras, networks and phones do to a picture: pure functions on [B, 3, H, W] sRGB in [0, 1]."""

from __future__ import annotations

import io
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.data.studio.look import Draw


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur, px; edges are continued."""
    if sigma <= 0:
        return image
    radius = max(1, math.ceil(3 * sigma))
    x = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(image.shape[1], 1, -1)
    for shape, pad in (((1, -1), (radius, radius, 0, 0)), ((-1, 1), (0, 0, radius, radius))):
        weight = kernel.reshape(image.shape[1], 1, *shape)
        image = F.conv2d(F.pad(image, pad, mode="replicate"), weight, groups=image.shape[1])
    return image


def resample(image: Tensor, factor: float) -> Tensor:
    """A picture taken at `factor` (at most 1) times the size and enlarged again."""
    if factor >= 1:
        return image
    small = F.interpolate(image, scale_factor=factor, mode="bilinear", antialias=True)
    return F.interpolate(small, size=image.shape[-2:], mode="bicubic").clamp(0, 1)


def noise(image: Tensor, photon: float, read: float, generator: torch.Generator) -> Tensor:
    """Sensor noise: its variance is photon * signal + read^2 (in sRGB units, close enough)."""
    draw = torch.randn(image.shape, generator=generator).to(image)
    return (image + draw * (photon * image.clamp_min(0) + read**2).sqrt()).clamp(0, 1)


def colour(image: Tensor, gains: Tensor, contrast: float, saturation: float) -> Tensor:
    """White balance gains [3], contrast about mid-grey, saturation about the luminance."""
    image = image * gains.to(image)[:, None, None]
    image = (image - 0.5) * contrast + 0.5
    grey = (image * image.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    return (grey + saturation * (image - grey)).clamp(0, 1)


def jpeg(image: Tensor, quality: int) -> Tensor:
    """Through a JPEG file of that quality, 4:2:0; on the CPU, one picture after the other."""
    import numpy as np
    from PIL import Image

    out = []
    for picture in (image.detach().cpu().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1):
        stream = io.BytesIO()
        Image.fromarray(picture.numpy()).save(stream, "JPEG", quality=quality)
        stream.seek(0)
        out.append(torch.from_numpy(np.asarray(Image.open(stream).convert("RGB")).copy()))
    return (torch.stack(out).permute(0, 3, 1, 2).float() / 255).to(image)


def photograph(image: Tensor, generator: torch.Generator) -> Tensor:
    """A random mixture of the above, mild to clearly visible; [B, 3, H, W], the same for the batch."""
    draw = Draw(generator)
    if draw.chance(0.4):
        image = blur(image, draw.uniform(0.2, 1.4))
    if draw.chance(0.35):
        image = resample(image, draw.uniform(0.35, 0.9))
    if draw.chance(0.6):
        gains = torch.exp(0.06 * torch.randn(3, generator=generator))
        image = colour(image, gains, draw.uniform(0.85, 1.15), draw.uniform(0.7, 1.25))
    if draw.chance(0.5):
        image = noise(image, draw.uniform(0, 0.002), draw.uniform(0, 0.025), generator)
    if draw.chance(0.6):
        image = jpeg(image, int(draw.uniform(35, 95)))
    return image
