"""The head's UV map as a canvas: what lies under every texel. The same for all people of one head model."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Concatenate, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.data.studio.noise import ball
from omega_cli.geometry.uvmap import rasterize_uv, texel_values
from omega_cli.head.model import HeadModel

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Atlas:
    """rest [H, W, 3] m: template point under each texel; lift [2, 3, H, W]: template displacement that a
    height's slope over u and over v, in m per texel, gives to the normal; regions: name -> [H, W] share in
    [0, 1]; scalp_field [H, W]: soft nearness to the scalp, 0.5 at its border; covered [H, W] bool; source
    [H, W] long: the flat index of the nearest covered texel (gutters copy it, so that no seam shows); known:
    what `fixed` functions have worked out."""

    rest: Tensor
    lift: Tensor
    regions: dict[str, Tensor]
    scalp_field: Tensor
    covered: Tensor
    source: Tensor
    known: dict[tuple, object] = field(default_factory=dict, repr=False)

    @property
    def size(self) -> int:
        return self.rest.shape[0]

    def padded(self, texture: Tensor) -> Tensor:  # [C, H, W] -> the same with filled gutters
        gutter, nearest = _gutters(self)
        flat = texture.flatten(1)
        return flat.index_copy(1, gutter, flat.index_select(1, nearest)).view_as(texture)


def fixed(make: Callable[Concatenate[Atlas, P], R]) -> Callable[Concatenate[Atlas, P], R]:
    """Decorates what depends on the canvas and plain arguments, not on the person: made once an atlas."""

    @functools.wraps(make)
    def recall(atlas: Atlas, *args: P.args, **kwargs: P.kwargs) -> R:
        key = (make, args, tuple(kwargs.items()))
        if key not in atlas.known:
            atlas.known[key] = make(atlas, *args, **kwargs)
        return atlas.known[key]  # type: ignore[return-value]

    return recall


@fixed
def _gutters(atlas: Atlas) -> tuple[Tensor, Tensor]:
    """Flat texels that copy another one, and which one."""
    source = atlas.source.flatten()
    gutter = torch.nonzero(source != torch.arange(len(source), device=source.device))[:, 0]
    return gutter, source[gutter]


@fixed
def axes(atlas: Atlas) -> tuple[Tensor, Tensor, Tensor]:
    """x, y, z of `Atlas.rest`, [H, W] each, in one piece each."""
    x, y, z = atlas.rest.permute(2, 0, 1).contiguous()
    return x, y, z


@fixed
def glow(atlas: Atlas, centre: tuple[float, float, float], radius: float) -> Tensor:
    """[H, W]: `noise.ball` on the canvas."""
    return ball(atlas.rest, centre, radius)


def texels(mask: Tensor) -> Tensor:
    """Flat indices of the texels that a mask [H, W] holds."""
    return torch.nonzero(mask.flatten())[:, 0]


@dataclass(frozen=True)
class Zone:
    """Some texels: where [n] flat indices; x, y, z [n] of the template there, m."""

    where: Tensor
    x: Tensor
    y: Tensor
    z: Tensor

    def pick(self, image: Tensor) -> Tensor:
        """[..., S, S] -> [..., n]."""
        return image.flatten(-2).index_select(-1, self.where)

    def put(self, image: Tensor, values: Tensor) -> Tensor:
        """`image` [..., S, S] with values [..., n] written into it, in place."""
        image.flatten(-2).index_copy_(-1, self.where, values)
        return image

    def blend(self, image: Tensor, colour: Tensor, amount: Tensor) -> None:
        """image [3, S, S], in place, towards a colour [3, 1] or [3, n] by amount [n]."""
        self.put(image, torch.lerp(self.pick(image), colour, amount))

    def scale(self, image: Tensor, by: Tensor) -> None:
        """image [..., S, S], in place, times [n]."""
        self.put(image, self.pick(image) * by)


@fixed
def zone_in(atlas: Atlas, low: tuple[float, float, float], high: tuple[float, float, float]) -> Zone:
    """The texels of a box |x|, y, z of the template, m."""
    x, y, z = axes(atlas)
    sides = [(v > a) & (v < b) for v, a, b in zip((x.abs(), y, z), low, high, strict=True)]
    return zone_of(atlas, sides[0] & sides[1] & sides[2])


def zone_of(atlas: Atlas, mask: Tensor) -> Zone:
    where = texels(mask)
    return Zone(where, *(v.flatten()[where] for v in axes(atlas)))


def make_atlas(model: HeadModel, size: int) -> Atlas:
    """Rasterise the head's UV layout once."""
    raster = rasterize_uv(model.uvs, model.uv_faces, size)
    rest = texel_values(model.v_template, model.faces, raster)
    names = [name for name in model.regions if name != "skin"]
    shares = texel_values(
        torch.stack([model.regions[name].float() for name in names], 1), model.faces, raster
    ).unbind(-1)
    regions = dict(zip(names, shares, strict=True))
    blurred = _blur(regions["scalp"] * raster.covered, size / 28)
    weight = _blur(
        (raster.covered & (_v(size) < 0.894)[:, None].to(raster.covered.device)).float(), size / 28
    )
    return Atlas(
        rest,
        _lift(model, raster.face_index, size),
        regions,
        blurred / weight.clamp_min(1e-3),
        raster.covered,
        _nearest(raster.covered),
    )


def _v(size: int) -> Tensor:
    return (torch.arange(size) + 0.5) / size


def _lift(model: HeadModel, face_index: Tensor, size: int) -> Tensor:
    """[2, 3, H, W]: per texel the matrix that turns a height's slope (m per texel) into a tangent vector: the
    pseudo-inverse of the map from texels to metres, transposed."""
    p, q = model.v_template[model.faces], model.uvs[model.uv_faces] * size
    edges = torch.stack([p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]], -1)  # [F, 3, 2] m
    steps = torch.stack([q[:, 1] - q[:, 0], q[:, 2] - q[:, 0]], -1)  # [F, 2, 2] texels
    det = steps[:, 0, 0] * steps[:, 1, 1] - steps[:, 0, 1] * steps[:, 1, 0]
    inverse = torch.stack([steps[:, 1, 1], -steps[:, 0, 1], -steps[:, 1, 0], steps[:, 0, 0]], -1)
    tangent = edges @ (inverse / det.abs().clamp_min(1e-9)[:, None] * det.sign()[:, None]).view(-1, 2, 2)
    gram = tangent.mT @ tangent
    d = gram[:, 0, 0] * gram[:, 1, 1] - gram[:, 0, 1] ** 2
    adjugate = torch.stack([gram[:, 1, 1], -gram[:, 0, 1], -gram[:, 1, 0], gram[:, 0, 0]], -1)
    matrix = tangent @ (adjugate / d.clamp_min(1e-16)[:, None]).view(-1, 2, 2)
    matrix = matrix.clamp(-6e3, 6e3)
    lift = torch.where((face_index >= 0)[..., None, None], matrix[face_index.clamp_min(0)], 0.0)
    return lift.permute(3, 2, 0, 1).contiguous()


def _blur(image: Tensor, sigma: float) -> Tensor:
    radius = int(3 * sigma)
    x = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = kernel / kernel.sum()
    out = F.conv2d(image[None, None], kernel[None, None, :, None], padding=(radius, 0))
    return F.conv2d(out, kernel[None, None, None, :], padding=(0, radius))[0, 0]


def _nearest(covered: Tensor, reach: int = 6) -> Tensor:
    """[H, W] flat index of a covered texel near each one, found by growing `reach` texels."""
    size = covered.shape[0]
    index = torch.arange(size * size, device=covered.device).view(size, size)
    index = torch.where(covered, index, -1)
    for _ in range(reach):
        grown = F.max_pool2d(
            index[None, None].float() if size * size < 2**24 else index[None, None].double(), 3, 1, 1
        )[0, 0].long()
        index = torch.where(index >= 0, index, grown)
    return torch.where(index >= 0, index, 0)
