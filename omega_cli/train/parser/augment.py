"""Training pictures from samples and photographs, whole batches on the training device.

Everything is drawn from the device's own random state (torch.manual_seed). Pictures are sRGB in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.track import parsing as labels
from omega_cli.train.parser import spoil
from omega_cli.train.parser.spoil import amount, some


@dataclass(frozen=True)
class Batch:
    """seen [B, 3, S, S]: what the student sees; clean: the same without damage; bits [B, S, S] int: allowed
    labels (`partial`) of what is clean; hidden [B, S, S] bool: where something covers it."""

    seen: Tensor
    clean: Tensor
    bits: Tensor
    hidden: Tensor


def moved(
    picture: Tensor,  # [B, C, H, W]
    bits: Tensor,  # int [B, H, W]
    size: int,
    zoom: tuple[float, float],  # of the picture's side, what the crop shows
    turn_deg: float,
    shift: float,  # share of the picture's side
) -> tuple[Tensor, Tensor]:
    """Another crop of each, turned a little and mirrored now and then; beyond the edge it is continued."""
    B, device = len(picture), picture.device
    scale = amount(B, device, *zoom)
    angle = torch.randn(B, device=device).clamp(-2, 2) * math.radians(turn_deg)
    c, s = scale * angle.cos(), scale * angle.sin()
    side = torch.where(torch.rand(B, device=device) < 0.5, -1.0, 1.0)
    at = torch.randn(2, B, device=device).clamp(-2, 2) * shift
    theta = torch.stack(
        [torch.stack([c * side, -s, at[0]], 1), torch.stack([s * side, c, at[1]], 1)], 1
    )  # [B, 2, 3]
    grid = F.affine_grid(theta, [B, 1, size, size], align_corners=False)
    out = F.grid_sample(picture, grid, padding_mode="reflection", align_corners=False)
    number = F.grid_sample(
        bits[:, None].float(), grid, mode="nearest", padding_mode="reflection", align_corners=False
    )
    return out, number[:, 0].round().to(bits.dtype)


def textures(B: int, size: int, device: torch.device) -> Tensor:  # [B, 3, size, size]
    """Made-up surroundings and cloths: gradients, clouds, grain, and patches with hard edges."""
    out = torch.rand(B, 3, 1, 1, device=device).expand(B, 3, size, size).clone()
    for cells in (2, 4, 9, 20, 48, size // 2):
        weight = some(B, device, 0.45) * torch.rand(B, 1, 1, 1, device=device) * (0.6 if cells < 16 else 0.35)
        cloud = F.interpolate(
            torch.rand(B, 3, cells, cells, device=device) - 0.5, (size, size), mode="bicubic"
        )
        grey = cloud.mean(1, keepdim=True)
        out += weight * torch.lerp(cloud, grey * 1.7, torch.rand(B, 1, 1, 1, device=device))
    form = F.interpolate(torch.rand(B, 1, 5, 5, device=device), (size, size), mode="bicubic")
    patch = (form > amount(B, device, 0.4, 0.7).view(-1, 1, 1, 1)).float() * some(B, device, 0.5)
    out = torch.lerp(out, torch.rand(B, 3, 1, 1, device=device).expand_as(out), 0.8 * patch)
    y = torch.linspace(0, 1, size, device=device)
    waves = amount(B, device, 4, 60).view(-1, 1, 1)
    slope = torch.randn(B, 1, 1, device=device).clamp(-1, 1)
    stripes = torch.sin(waves * (y[:, None] + slope * y[None])).sign() * 0.5 + 0.5
    out = torch.lerp(out, torch.rand(B, 3, 1, 1, device=device).expand_as(out),
                     0.7 * stripes[:, None] * some(B, device, 0.15))  # fmt: skip
    return out.clamp(0, 1)


def backgrounds(B: int, size: int, bank: Tensor | None, device: torch.device) -> Tensor:
    """[B, 3, size, size]: made up, or photographs' (bank [M, 3, h, w] uint8), sharp or out of focus."""
    out = textures(B, size, device)
    if bank is not None and len(bank):
        pick = torch.randint(len(bank), (B,), device=device)
        real = bank[pick].float() / 255
        none = torch.zeros(B, *real.shape[2:], dtype=torch.int32, device=device)
        real, _ = moved(real, none, size, (0.5, 1.0), 10.0, 0.1)
        out = torch.where(some(B, device, 0.6) > 0, real, out)
    return spoil.blurred(out, some(B, device, 0.5).flatten() * amount(B, device, 0, 6))


def dressed(rgb: Tensor, bits: Tensor) -> Tensor:
    """People in other cloths, with other hair colours and skin tints; shading stays."""
    B, _, H, _ = rgb.shape
    device = rgb.device
    grey = rgb.mean(1, keepdim=True)
    for label, chance in ((labels.CLOTH, 0.6), (labels.HAT, 0.5)):
        mask = (bits == 1 << label)[:, None].float()
        level = (grey * mask).sum((2, 3), keepdim=True) / mask.sum((2, 3), keepdim=True).clamp_min(1)
        shading = (grey / level.clamp_min(0.02)).clamp(0.2, 2.2)
        rgb = torch.lerp(rgb, (textures(B, H, device) * shading).clamp(0, 1), mask * some(B, device, chance))
    for label, spread, tint in ((labels.HAIR, 0.4, 0.12), (labels.SKIN, 0.12, 0.05)):
        mask = (bits == 1 << label)[:, None].float()
        if label == labels.SKIN:
            for other in (labels.NOSE, labels.NECK, labels.EARS):
                mask = mask + (bits == 1 << other)[:, None].float()
        gain = torch.exp(spread * torch.randn(B, 1, 1, 1, device=device).clamp(-2, 2)
                         + tint * torch.randn(B, 3, 1, 1, device=device).clamp(-2, 2))  # fmt: skip
        rgb = torch.lerp(rgb, (rgb * gain).clamp(0, 1), mask)
    return rgb


def of_people(samples: Tensor, size: int, bank: Tensor | None) -> Batch:
    """Drawn people [B, 5, S, S] uint8 (`drawn`) before a background."""
    values = samples[:, :4].float() / 255
    bits = 1 << samples[:, 4].to(torch.int32)
    values, bits = moved(values, bits, size, (0.85, 1.2), 6.0, 0.04)
    rgb, alpha = values[:, :3], values[:, 3:]
    # the renderer's colours are straight: resampled against black they are not, at the very rim
    rgb = dressed(rgb, bits)
    clean = torch.lerp(backgrounds(len(rgb), size, bank, rgb.device), rgb, alpha)
    return _spoilt(clean, bits)


def of_photographs(
    photos: Tensor,  # [B, 4, S, S] uint8: rgb and matte
    bits: Tensor,  # int [B, S, S]
    size: int,
    bank: Tensor | None,
) -> Batch:
    """Photographs in another crop, some of them cut out and put before another background."""
    values, bits = moved(photos.float() / 255, bits, size, (0.66, 1.0), 6.0, 0.05)
    rgb, matte = values[:, :3], values[:, 3:]
    B = len(rgb)
    swap = some(B, rgb.device, 0.3)
    ground = backgrounds(B, size, bank, rgb.device)
    clean = torch.where(swap > 0, torch.lerp(ground, rgb, matte), rgb)
    return _spoilt(clean, bits)


def joined(batches: Sequence[Batch]) -> Batch:
    return Batch(*(torch.cat([getattr(b, f.name) for b in batches]) for f in fields(Batch)))


def _spoilt(clean: Tensor, bits: Tensor) -> Batch:
    B, _, size, _ = clean.shape
    device = clean.device
    hidden = some(B, device, 0.12)
    form = F.interpolate(torch.rand(B, 1, 4, 4, device=device), (size, size), mode="bicubic")
    patch = (form > 0.78).float() * hidden
    seen = torch.where(patch > 0, textures(B, size, device), clean)
    return Batch(spoil.photograph(seen), clean, bits, patch[:, 0] > 0)
