"""Learned view features (paper 3.3's encoder, small): beside the fixed filter bank, at three scales.

A pyramid of convolutions with lateral links (Lin et al. 2017, FPN), which brings wide context to every
pixel. What it says is free at first: nobody listens to it until the decoder's last layers speak.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omega_cli.blocks import Block


@dataclass(frozen=True)
class EncoderConfig:
    """Channels at 1/2, 1/4 and 1/8 of a view, and of the features that come out."""

    channels: tuple[int, int, int] = (24, 48, 64)
    outputs: int = 16


class Encoder(nn.Module):
    """K views rgb [K, 3, H, W] in [0, 1] and mask [K, 1, H, W] -> features [K, outputs, H, W], 0 outside the
    mask; H and W multiples of 8."""

    multiple = 8

    def __init__(self, config: EncoderConfig = EncoderConfig()) -> None:
        super().__init__()
        self.config = config
        a, b, c = config.channels
        self.enter = nn.Conv2d(4, a, 3, 2, 1)
        self.fine = Block(a, a)
        self.shrink1, self.middle = nn.Conv2d(a, b, 3, 2, 1), Block(b, b)
        self.shrink2, self.coarse = nn.Conv2d(b, c, 3, 2, 1), nn.Sequential(Block(c, c), Block(c, c))
        self.from_coarse, self.from_middle = nn.Conv2d(c, b, 1), nn.Conv2d(b, a, 1)
        self.last = nn.Conv2d(a, config.outputs, 3, padding=1)

    def forward(self, rgb: Tensor, mask: Tensor) -> Tensor:
        fine = self.fine(self.enter(torch.cat([2 * rgb - 1, mask], 1)))
        middle = self.middle(self.shrink1(fine))
        coarse = self.coarse(self.shrink2(middle))
        middle = middle + twice(self.from_coarse(coarse))
        fine = fine + twice(self.from_middle(middle))
        return twice(self.last(F.silu(fine))) * mask

    def description(self) -> dict[str, Any]:
        """What `Encoder(EncoderConfig(**...))` needs to be this network again."""
        return asdict(self.config)


def twice(x: Tensor) -> Tensor:  # [K, C, H, W] -> [K, C, 2 H, 2 W]
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
