"""The neural refiner (paper 3.3, I_raw to I_ref) as a residual on the raw image: light, without noise."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omega_cli.blocks import Block, silence
from omega_cli.gaussians.model import COLOURS
from omega_cli.replay import Replayed

STRIDE = 4  # px of the image side by side in one place of the network
BAND = 32  # px: rows that the CPU reads at once


@dataclass(frozen=True)
class RefinerConfig:
    """Channels at 1/4 of the image, at 1/8 and so on; blocks: on each of these scales, on the way down and
    again on the way up. On the CPU a convolution of 48 takes 3.6 times as long as one of 32."""

    channels: tuple[int, ...] = (32, 64, 128)
    blocks: int = 2


class Refiner(nn.Module):
    """Splatted channels [B, 32, H, W] and alpha [B, 1, H, W] -> what to add to the first three [B, 3, H, W].

    Nothing is added where alpha is 0.
    """

    def __init__(self, config: RefinerConfig = RefinerConfig()) -> None:
        super().__init__()
        self.config = config
        fine, coarsest = config.channels[0], config.channels[-1]
        scales = list(itertools.pairwise(config.channels))
        self.multiple = STRIDE * 2 ** len(scales)  # sides that it works on; others are padded
        self.enter = nn.Conv2d(COLOURS, fine, STRIDE, STRIDE)
        self.enter_alpha = nn.Conv2d(1, fine, STRIDE, STRIDE, bias=False)
        self.down = nn.ModuleList(_blocks(here, config.blocks) for here, _ in scales)
        self.shrink = nn.ModuleList(nn.Conv2d(here, below, 3, 2, 1) for here, below in scales)
        self.middle = _blocks(coarsest, config.blocks)
        self.grow = nn.ModuleList(nn.Conv2d(below, here, 1) for here, below in scales)
        self.up = nn.ModuleList(_blocks(here, config.blocks) for here, _ in scales)
        self.last = nn.Conv2d(fine, 3 * STRIDE**2, 3, padding=1)
        silence(self.last)

    def forward(self, colours: Tensor, alpha: Tensor) -> Tensor:
        height, width = colours.shape[-2:]
        inputs = colours, alpha
        if height % self.multiple or width % self.multiple:  # else the padding would be a copy
            beyond = 0, -width % self.multiple, 0, -height % self.multiple
            inputs = tuple(F.pad(t, beyond) for t in inputs)
        x = self._patches(inputs[0]) + self.enter_alpha(inputs[1])
        fine = []
        for down, shrink in zip(self.down, self.shrink, strict=True):
            fine.append(down(x))
            x = shrink(fine[-1])
        x = self.middle(x)
        for kept, grow, up in reversed(list(zip(fine, self.grow, self.up, strict=True))):
            x = up(kept + F.interpolate(grow(x), scale_factor=2.0, mode="bilinear", align_corners=False))
        out = F.pixel_shuffle(self.last(F.silu(x)), STRIDE)
        return out[..., :height, :width] * alpha

    def _patches(self, colours: Tensor) -> Tensor:
        """`enter`; on the CPU band by band, which is twice as fast: all at once leaves the cache."""
        if colours.is_cuda:
            return self.enter(colours)
        return torch.cat([self.enter(band) for band in colours.split(BAND, dim=2)], dim=2)

    def description(self) -> dict[str, Any]:
        """What `Refiner(RefinerConfig(**...))` needs to be this network again."""
        return asdict(self.config)


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(Block(channels, channels, groups=0) for _ in range(count)))


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
