"""The two branches of the decoder (paper 3.3) as residuals on the analytic one: small, and zero at first.

UV branch: a convolutional U-Net over the canonical map, which is told where on the head each texel lies.
Vertex branch: what the UV branch holds at a vertex, the vertex's own learned code and the identity vector of
the front view, through a perceptron.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omega_cli.blocks import Block, silence
from omega_cli.decode.lids import unfolding
from omega_cli.decode.residual import AT_VERTEX, ON_TEXEL
from omega_cli.decode.surface import vertex_uvs
from omega_cli.decode.texture import sample_uv
from omega_cli.geometry.uvmap import rasterize_uv, texel_values
from omega_cli.head.model import HeadModel
from omega_cli.head.parts import PARTS, face_parts

BANDS = 4  # frequencies of the position code
REACH = 0.15  # m: positions are divided by it
POSITION = 3 * (1 + 2 * BANDS)
LAYOUT = POSITION + len(PARTS) + 1
SHAPE = 10  # numbers of a fitted texel beside its colour, see `Change.shape`
SEEN = 4 + SHAPE  # of the inputs: completed colours, how well a texel was seen, and what the fit changed


@dataclass(frozen=True)
class DecoderConfig:
    """features: channels of the canonical map; channels of the U-Net at 1, 1/2, 1/4, ...; identity: length of
    the identity vector; vertices: of the head; code: learned numbers a vertex; width of the perceptron."""

    features: int = 15
    channels: tuple[int, ...] = (32, 64, 96, 128)
    identity: int = 30
    vertices: int = 0
    code: int = 24
    width: int = 128


@dataclass(frozen=True)
class UVLayout:
    """What the head's UV map is, for every avatar alike.

    code [LAYOUT, R, R]: position on the mean head with its sines and cosines, part, coverage; vertex_uv
    [V, 2], NaN without a face; free [1, R, R] and vertex_free [V] in [0, 1]: 0 on skin that only a blink
    unfolds. Open eyes hide it, so a network that learns from them would paint anything there.
    """

    code: Tensor
    vertex_uv: Tensor
    free: Tensor
    vertex_free: Tensor

    @staticmethod
    def of(model: HeadModel, size: int) -> UVLayout:
        raster = rasterize_uv(model.uvs, model.uv_faces, size)
        place = texel_values(model.v_template, model.faces, raster).permute(2, 0, 1) / REACH
        covered = raster.covered[None].to(place)
        angles = torch.cat([place * (math.pi * 2**band) for band in range(BANDS)])
        part = F.one_hot(face_parts(model)[raster.face_index.clamp_min(0)], len(PARTS)).permute(2, 0, 1)
        code = torch.cat([place, angles.sin(), angles.cos(), part.to(place)]) * covered
        uvs = vertex_uvs(model.faces, model.uvs, model.uv_faces, len(model.v_template))
        unfolds = unfolding(model, model.v_template)[:, None].expand(-1, 3)
        hidden = place.new_zeros(len(uvs)).scatter_reduce(0, model.faces.flatten(), unfolds.flatten(), "amax")
        free = 1 - texel_values(hidden[:, None], model.faces, raster).permute(2, 0, 1)
        return UVLayout(torch.cat([code, covered]), uvs, free, 1 - hidden)


def uv_inputs(
    features: Tensor,  # [C, R, R]
    share: Tensor,  # [1, R, R] in [0, 1], how well a texel was seen
    texture: Tensor,  # [3, R, R], completed and fitted colours
    shape: Tensor,  # [SHAPE, R, R], fitted
    layout: UVLayout,
) -> Tensor:  # [C + SEEN + LAYOUT, R, R]
    """What the UV branch sees; features count only where something was seen."""
    return torch.cat([features * share, 2 * texture - 1, share, shape, layout.code])


class UVBranch(nn.Module):
    """[B, inputs, R, R] -> (hidden [B, c0, R, R], change [B, ON_TEXEL, R, R]); R a multiple of 2^levels."""

    def __init__(self, inputs: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(channels))
        self.enter = nn.Conv2d(inputs, channels[0], 3, padding=1)
        self.down = nn.ModuleList([Block(c, c) for c in channels[:-1]])
        self.shrink = nn.ModuleList([nn.Conv2d(a, b, 3, 2, 1) for a, b in pairs])
        self.middle = nn.Sequential(Block(channels[-1], channels[-1]), Block(channels[-1], channels[-1]))
        self.grow = nn.ModuleList([nn.Conv2d(b, a, 1) for a, b in reversed(pairs)])
        self.up = nn.ModuleList([Block(2 * a, a) for a, _ in reversed(pairs)])
        self.last = nn.Conv2d(channels[0], ON_TEXEL, 1)
        silence(self.last)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h, kept = self.enter(x), []
        for block, shrink in zip(self.down, self.shrink, strict=True):
            h = block(h)
            kept.append(h)
            h = shrink(h)
        h = self.middle(h)
        for grow, block in zip(self.grow, self.up, strict=True):
            h = F.interpolate(grow(h), scale_factor=2.0, mode="bilinear", align_corners=False)
            h = block(torch.cat([h, kept.pop()], 1))
        return h, self.last(F.silu(h))


class VertexBranch(nn.Module):
    """(hidden at the vertices [B, V, H], identity [B, D]) -> change [B, V, AT_VERTEX]."""

    def __init__(self, hidden: int, config: DecoderConfig) -> None:
        super().__init__()
        self.code = nn.Parameter(0.1 * torch.randn(config.vertices, config.code))
        self.person = nn.Linear(config.identity, config.width)
        self.enter = nn.Linear(hidden + config.code, config.width)
        self.inner = nn.Linear(config.width, config.width)
        self.last = nn.Linear(config.width, AT_VERTEX)
        silence(self.last)

    def forward(self, hidden: Tensor, identity: Tensor) -> Tensor:
        code = self.code.expand(len(hidden), -1, -1)
        h = self.enter(torch.cat([hidden, code.to(hidden.dtype)], -1)) + self.person(identity)[:, None]
        return self.last(F.silu(self.inner(F.silu(h))))


class AvatarDecoder(nn.Module):
    """Both branches. Gives nothing but zeros until it is trained."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.uv = UVBranch(config.features + SEEN + LAYOUT, config.channels)
        self.vertex = VertexBranch(config.channels[0], config)

    def forward(
        self,
        inputs: Tensor,  # [B, C, R, R], see `uv_inputs`
        identity: Tensor,  # [B, D]
        vertex_uv: Tensor,  # [V, 2]
    ) -> tuple[Tensor, Tensor]:  # [B, ON_TEXEL, R, R], [B, V, AT_VERTEX]
        hidden, change = self.uv(inputs)
        at_vertices = torch.stack([sample_uv(image, vertex_uv.to(image)) for image in hidden])
        return change, self.vertex(at_vertices, identity.to(at_vertices))

    def description(self) -> dict[str, Any]:
        """What `AvatarDecoder(DecoderConfig(**...))` needs to be this network again."""
        return asdict(self.config)
