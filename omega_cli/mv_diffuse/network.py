"""The view network: a residual on the lift, seen by all views together.

A U-Net per view around joint attention over the views' 1/8 maps, the photo itself among them. Its last layer
starts at zero, so an untrained network is the lift exactly (project rule: a residual on an analytic base).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omega_cli.blocks import silence

from .conditioning import INPUTS, OUTPUTS

STRIDE = 8  # px of the input between two tokens


@dataclass(frozen=True)
class ViewNetConfig:
    """Sizes of the network: channels at 1/2, 1/4 and 1/8, tokens' width, heads of 64, layers of attention."""

    channels: tuple[int, int, int] = (64, 128, 256)
    width: int = 384
    layers: int = 6
    embedding: int = 128
    positions: int = 16  # learned positions along a side; others are interpolated
    views: int = 7


class ConvBlock(nn.Module):
    """Two 3 x 3 convolutions with a skip; scale and shift of the second norm are each view's own."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(16, inputs), nn.GroupNorm(16, outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        silence(self.conv2)

    def forward(self, x: Tensor, view: Tensor) -> Tensor:  # [N, C, h, w], [N, embedding]
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.film(view)[:, :, None, None].chunk(2, 1)
        return self.skip(x) + self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))


class TokenBlock(nn.Module):
    """Attention over all tokens of all views, then a perceptron; pre-norm, normalised queries and keys."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // 64
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.q_norm, self.k_norm = nn.LayerNorm(64), nn.LayerNorm(64)
        last = nn.Linear(4 * width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), last)
        for layer in (self.out, last):
            nn.init.normal_(layer.weight, std=0.006)

    def forward(self, x: Tensor) -> Tensor:  # [B, N, D]
        B, N, D = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(B, N, 3, self.heads, 64).permute(2, 0, 3, 1, 4)
        q, k = self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, N, D)
        x = x + self.out(mixed)
        return x + self.mlp(self.norm2(x))


class ViewNet(nn.Module):
    """[B, 7, 16, h, w] (`conditioning.network_input`) -> residual [B, 6, 7, h, w]; h, w multiples of 8."""

    def __init__(self, config: ViewNetConfig = ViewNetConfig()) -> None:
        super().__init__()
        self.config = config
        (a, b, c), e, d = config.channels, config.embedding, config.width
        self.view = nn.Parameter(0.5 * torch.randn(config.views, e))
        self.enter = nn.Conv2d(4 * INPUTS, a, 3, padding=1)
        self.down0 = nn.ModuleList([ConvBlock(a, a, e), ConvBlock(a, a, e)])
        self.shrink1 = nn.Conv2d(a, b, 3, 2, 1)
        self.down1 = nn.ModuleList([ConvBlock(b, b, e), ConvBlock(b, b, e)])
        self.shrink2 = nn.Conv2d(b, c, 3, 2, 1)
        self.down2 = ConvBlock(c, c, e)
        self.to_tokens, self.from_tokens = nn.Linear(c, d), nn.Linear(d, c)
        self.position = nn.Parameter(0.02 * torch.randn(config.views, d, config.positions, config.positions))
        self.tokens = nn.ModuleList([TokenBlock(d) for _ in range(config.layers)])
        self.up2 = ConvBlock(2 * c, c, e)
        self.grow1 = nn.Conv2d(c, b, 3, padding=1)
        self.up1 = nn.ModuleList([ConvBlock(2 * b, b, e), ConvBlock(b, b, e)])
        self.grow0 = nn.Conv2d(b, a, 3, padding=1)
        self.up0 = nn.ModuleList([ConvBlock(2 * a, a, e), ConvBlock(a, a, e)])
        self.last_norm, self.last = nn.GroupNorm(16, a), nn.Conv2d(a, 4 * OUTPUTS, 3, padding=1)
        silence(self.last)

    def forward(self, x: Tensor) -> Tensor:
        B, K = x.shape[:2]
        view = F.silu(self.view).expand(B, -1, -1).flatten(0, 1)
        h = self.enter(F.pixel_unshuffle(x.flatten(0, 1), 2))
        for block in self.down0:
            h = block(h, view)
        fine = h
        h = self.shrink1(h)
        for block in self.down1:
            h = block(h, view)
        middle = h
        coarse = self.down2(self.shrink2(h), view)
        mixed = self._attend(coarse, B, K)

        def targets(t: Tensor) -> Tensor:  # the photo's own view is told, not asked for
            return t.unflatten(0, (B, K))[:, : K - 1].flatten(0, 1)

        view = targets(view)
        h = self.up2(torch.cat([targets(mixed), targets(coarse)], 1), view)
        h = self.grow1(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        h = torch.cat([h, targets(middle)], 1)
        for block in self.up1:
            h = block(h, view)
        h = self.grow0(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        h = torch.cat([h, targets(fine)], 1)
        for block in self.up0:
            h = block(h, view)
        out = F.pixel_shuffle(self.last(F.silu(self.last_norm(h))), 2)
        return out.unflatten(0, (B, K - 1))

    def _attend(self, coarse: Tensor, B: int, K: int) -> Tensor:  # [B K, c, h, w]
        h, w = coarse.shape[-2:]
        position = F.interpolate(self.position, (h, w), mode="bilinear", align_corners=False)
        tokens = self.to_tokens(coarse.flatten(2).transpose(1, 2)) + position.flatten(2).transpose(
            1, 2
        ).repeat(B, 1, 1)
        tokens = tokens.reshape(B, K * h * w, -1)
        for block in self.tokens:
            tokens = block(tokens)
        return self.from_tokens(tokens).reshape(B * K, h * w, -1).transpose(1, 2).unflatten(2, (h, w))

    def description(self) -> dict:
        """What `ViewNet(ViewNetConfig(**...))` needs to be this network again."""
        return asdict(self.config)
