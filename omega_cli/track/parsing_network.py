"""This project's face parser: a small U-Net that sees 256 px and has the whole head in view.

`ParserNet` is what is trained (logits at half its input's size); `FaceParser` is the same with norms folded,
for any crop.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omega_cli.track.parsing import LABELS, channels_last, fold_norms

SIDE = 256  # px that the network sees
_PAIRS = (("conv", "norm"), ("conv1", "norm1"), ("conv2", "norm2"))


@dataclass(frozen=True)
class ParserConfig:
    """Channels at 1/2, 1/4, 1/8, 1/16 and 1/32 of the input, and of the way back up to 1/2."""

    channels: tuple[int, int, int, int, int] = (24, 48, 96, 160, 192)
    back: tuple[int, int, int, int] = (32, 64, 96, 128)
    blocks: tuple[int, int, int, int] = (2, 2, 3, 2)


class ConvNorm(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)), inplace=True)


class Residual(nn.Module):
    """Two 3 x 3 convolutions with a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(x + self.norm2(self.conv2(y)), inplace=True)


class Attention(nn.Module):
    """All places of a small map look at each other: which hair belongs to which head is seen from afar."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.position = nn.Parameter(0.02 * torch.randn(channels, SIDE // 32, SIDE // 32))
        nn.init.normal_(self.out.weight, std=0.006)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, h, w]
        position = F.interpolate(self.position[None], x.shape[2:], mode="bilinear", align_corners=False)
        tokens = self.norm((x + position).flatten(2).transpose(1, 2))
        B, N, C = tokens.shape
        q, k, v = self.qkv(tokens).view(B, N, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, N, C)
        return x + self.out(mixed).transpose(1, 2).reshape(x.shape)


class ParserNet(nn.Module):
    """[B, 3, h, w] in [0, 1] -> logits [B, LABELS, h / 2, w / 2]; h, w multiples of 32."""

    def __init__(self, config: ParserConfig = ParserConfig()) -> None:
        super().__init__()
        self.config = config
        half, *deeper = config.channels
        self.stem = ConvNorm(3, half, 3, 2)
        self.down = nn.ModuleList()
        before = half
        for channels, count in zip(deeper, config.blocks, strict=True):
            blocks = [Residual(channels) for _ in range(count)]
            self.down.append(nn.Sequential(ConvNorm(before, channels, 3, 2), *blocks))
            before = channels
        self.around = nn.Sequential(Attention(before), Residual(before), Attention(before))
        self.up = nn.ModuleList()
        for channels, beside in zip(config.back[::-1], config.channels[-2::-1], strict=True):
            self.up.append(nn.Sequential(ConvNorm(before + beside, channels), Residual(channels)))
            before = channels
        self.last = nn.Conv2d(before, LABELS, 1)

    def forward(self, rgb: Tensor) -> Tensor:
        x = self.stem((rgb - 0.45) * 4)
        beside = [x]
        for stage in self.down:
            x = stage(x)
            beside.append(x)
        x = self.around(beside.pop())
        for stage in self.up:
            other = beside.pop()
            x = F.interpolate(x, other.shape[2:], mode="bilinear", align_corners=False)
            x = stage(torch.cat([x, other], 1))
        return self.last(x)

    def description(self) -> dict[str, object]:
        """What `ParserConfig(**...)` needs to be this network again."""
        return asdict(self.config)


class FaceParser:
    """A trained `ParserNet` for use, a `parsing.Parser`: [3, H, W] in [0, 1] -> [LABELS, H, W]."""

    def __init__(self, net: ParserNet) -> None:
        """Takes the network over: its norms are folded."""
        self.net = net.eval().requires_grad_(False)
        fold_norms(self.net, _PAIRS)
        channels_last(self.net)

    @torch.inference_mode()
    def __call__(self, rgb: Tensor) -> Tensor:
        x = rgb[None]
        if x.shape[2:] != (SIDE, SIDE):
            x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
        logits = self.net(x.contiguous(memory_format=torch.channels_last)).contiguous()
        return F.interpolate(logits, rgb.shape[1:], mode="bilinear", align_corners=False)[0].softmax(0)
