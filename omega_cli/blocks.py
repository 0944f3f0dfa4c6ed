"""Parts that our networks share. What adds to something starts at zero: untrained, it changes nothing."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def silence(layer: nn.Conv2d | nn.Linear) -> None:
    """Start at zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class Block(nn.Module):
    """x + two 3 x 3 convolutions of it, nothing at first; groups: of the norms before them, 0 for none."""

    def __init__(self, inputs: int, outputs: int, groups: int = 8) -> None:
        super().__init__()
        self.norm1, self.norm2 = (
            nn.GroupNorm(groups, n) if groups else nn.Identity() for n in (inputs, outputs)
        )
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        silence(self.conv2)

    def forward(self, x: Tensor) -> Tensor:  # [B, inputs, H, W] -> [B, outputs, H, W]
        h = self.conv1(F.silu(self.norm1(x)))
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))
