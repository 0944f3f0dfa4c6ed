"""The neural refiner (paper 3.3, I_raw to I_ref) as a residual on the raw image: light, without noise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omega_cli.blocks import Block, silence
from omega_cli.decode.residual import COLOURS

STRIDE = 4  # px of the image side by side in one place of the network
MULTIPLE = 2 * STRIDE  # of this are the sides that it works on; others are padded


@dataclass(frozen=True)
class RefinerConfig:
    """Channels at 1/4 and at 1/8 of the image."""

    channels: tuple[int, int] = (48, 64)


class Refiner(nn.Module):
    """Splatted channels [B, 32, H, W] and alpha [B, 1, H, W] -> what to add to the first three [B, 3, H, W].

    Nothing is added where alpha is 0.
    """

    def __init__(self, config: RefinerConfig = RefinerConfig()) -> None:
        super().__init__()
        self.config = config
        fine, coarse = config.channels
        self.enter = nn.Conv2d((COLOURS + 1) * STRIDE**2, fine, 1)
        self.first = Block(fine, fine, groups=0)
        self.shrink = nn.Conv2d(fine, coarse, 3, 2, 1)
        self.middle = nn.Sequential(Block(coarse, coarse, groups=0), Block(coarse, coarse, groups=0))
        self.grow = nn.Conv2d(coarse, fine, 1)
        self.second = Block(fine, fine, groups=0)
        self.last = nn.Conv2d(fine, 3 * STRIDE**2, 3, padding=1)
        silence(self.last)

    def forward(self, colours: Tensor, alpha: Tensor) -> Tensor:
        height, width = colours.shape[-2:]
        pad = (0, -width % MULTIPLE, 0, -height % MULTIPLE)
        x = F.pixel_unshuffle(F.pad(torch.cat([colours, alpha], 1), pad), STRIDE)
        fine = self.first(self.enter(x))
        coarse = self.middle(self.shrink(fine))
        up = F.interpolate(self.grow(coarse), scale_factor=2.0, mode="bilinear", align_corners=False)
        out = F.pixel_shuffle(self.last(F.silu(self.second(fine + up))), STRIDE)
        return out[..., :height, :width] * alpha

    def description(self) -> dict[str, Any]:
        """What `Refiner(RefinerConfig(**...))` needs to be this network again."""
        return asdict(self.config)
