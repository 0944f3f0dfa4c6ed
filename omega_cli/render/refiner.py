"""The neural refiner (paper 3.3, I_raw to I_ref) as a residual on the raw image: light, without noise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omega_cli.blocks import Block, silence
from omega_cli.gaussians.model import COLOURS
from omega_cli.replay import Replayed

STRIDE = 4  # px of the image side by side in one place of the network
MULTIPLE = 2 * STRIDE  # of this are the sides that it works on; others are padded
BAND = 32  # px: rows that the CPU reads at once


@dataclass(frozen=True)
class RefinerConfig:
    """Channels at 1/4 and at 1/8 of the image. On the CPU a convolution of 48 takes 3.6 times as long as one
    of 32."""

    channels: tuple[int, int] = (32, 64)


class Refiner(nn.Module):
    """Splatted channels [B, 32, H, W] and alpha [B, 1, H, W] -> what to add to the first three [B, 3, H, W].

    Nothing is added where alpha is 0.
    """

    def __init__(self, config: RefinerConfig = RefinerConfig()) -> None:
        super().__init__()
        self.config = config
        fine, coarse = config.channels
        self.enter = nn.Conv2d(COLOURS, fine, STRIDE, STRIDE)
        self.enter_alpha = nn.Conv2d(1, fine, STRIDE, STRIDE, bias=False)
        self.first = Block(fine, fine, groups=0)
        self.shrink = nn.Conv2d(fine, coarse, 3, 2, 1)
        self.middle = nn.Sequential(Block(coarse, coarse, groups=0), Block(coarse, coarse, groups=0))
        self.grow = nn.Conv2d(coarse, fine, 1)
        self.second = Block(fine, fine, groups=0)
        self.last = nn.Conv2d(fine, 3 * STRIDE**2, 3, padding=1)
        silence(self.last)

    def forward(self, colours: Tensor, alpha: Tensor) -> Tensor:
        height, width = colours.shape[-2:]
        inputs = colours, alpha
        if height % MULTIPLE or width % MULTIPLE:  # else the padding would be a copy
            inputs = tuple(F.pad(t, (0, -width % MULTIPLE, 0, -height % MULTIPLE)) for t in inputs)
        fine = self.first(self._patches(inputs[0]) + self.enter_alpha(inputs[1]))
        coarse = self.middle(self.shrink(fine))
        up = F.interpolate(self.grow(coarse), scale_factor=2.0, mode="bilinear", align_corners=False)
        out = F.pixel_shuffle(self.last(F.silu(self.second(fine + up))), STRIDE)
        return out[..., :height, :width] * alpha

    def _patches(self, colours: Tensor) -> Tensor:
        """`enter`; on the CPU band by band, which is twice as fast: all at once leaves the cache."""
        if colours.is_cuda:
            return self.enter(colours)
        return torch.cat([self.enter(band) for band in colours.split(BAND, dim=2)], dim=2)

    def description(self) -> dict[str, Any]:
        """What `Refiner(RefinerConfig(**...))` needs to be this network again."""
        return asdict(self.config)


@torch.no_grad()
def refine(
    net: Refiner,
    colours: Tensor,  # [32, H, W] over black
    alpha: Tensor,  # [H, W]
    background: Tensor | None = None,  # [3], default black
) -> Tensor:  # [3, H, W] in [0, 1]
    """The raw image and what the refiner adds to it. On CUDA in bfloat16, channels last as gsplat draws."""
    raw = colours[:3]
    if background is not None:
        raw = raw + (1 - alpha) * background[:, None, None]
    with torch.autocast(colours.device.type, torch.bfloat16, enabled=colours.is_cuda, cache_enabled=False):
        change = net(colours[None], alpha[None, None])[0]
    return (raw + change.float()).clamp(0, 1)


refine_replayed = Replayed(refine)
