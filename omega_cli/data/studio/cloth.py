"""Clothes: the neck's lower end is dressed, and shoulders continue the bust to below the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from omega_cli.data.studio.atlas import Atlas, fixed
from omega_cli.data.studio.look import Draw, Look
from omega_cli.data.studio.noise import band_noise, smoothstep
from omega_cli.data.studio.skin import LABEL, Paint
from omega_cli.geometry.mesh import vertex_normals

ANGLES, RINGS = 72, 26
THICKNESS = 0.0035  # m by which cloth stands off the skin
AXIS_Z = -0.035  # m: the body's vertical axis
BOTTOM = -0.45  # m: shoulders end here, below every picture


def neckline(points: Tensor, collar: str) -> Tensor:
    """[...] m under the cloth's upper edge (negative: bare skin), on the template's neck [..., 3]."""
    x, y, z = points.unbind(-1)
    above_rim = y + 0.165 + 0.45 * z
    front = smoothstep(z, -0.035, 0.01) * smoothstep(x.abs(), 0.055, 0.0)
    height = {
        "crew": 0.024 - 0.006 * front,
        "v neck": 0.030 - 0.10 * front,
        "turtle": 0.074 + 0 * front,
        "boat": 0.006 - 0.003 * front,
        "shirt": 0.044 - 0.075 * front,
    }[collar]
    return height - above_rim


def clothe(atlas: Atlas, look: Look, paint: Paint, generator: torch.Generator) -> Paint:
    """The texture with the cloth painted on and its gutters filled."""
    share, edge, fold = _cut(atlas, look.collar)
    weave = band_noise(atlas.size, atlas.size // 2, generator).mul_(0.02).add_(1)
    colour = torch.addcmul(
        look.cloth[:, None, None], edge, (look.trim - look.cloth)[:, None, None], value=0.7
    )
    albedo = torch.lerp(paint.albedo, colour * weave.mul_(fold), share)
    cut = share > 0.5
    labels = torch.where(cut, LABEL["cloth"], paint.labels)
    flat = torch.cat([albedo, paint.relief * ~cut, paint.gloss * (1 - share), paint.hair[None]])
    flat = atlas.padded(flat)
    return Paint(flat[:3], flat[3:6], flat[6:7], atlas.padded(labels[None])[0], flat[7])


@fixed
def _cut(atlas: Atlas, collar: str) -> tuple[Tensor, Tensor, Tensor]:
    """[S, S]: share of cloth; the collar's band; the factor that darkens its seam."""
    under, regions = neckline(atlas.rest, collar), atlas.regions
    body = (regions["neck"] + regions["boundary"] + regions["face"] + regions["scalp"]).clamp(0, 1)
    share = smoothstep(under, -0.0008, 0.0008) * body * (atlas.rest[..., 1] < -0.05)
    edge = smoothstep(under, 0.010, 0.008)
    return share, edge, 1 - 0.25 * edge * smoothstep(under, 0.006, 0.0)


@dataclass(frozen=True)
class Torso:
    """vertices, normals [V, 3] canonical m; colours [V, 3]; faces [F, 3]; roots [V]: head vertices."""

    vertices: Tensor
    normals: Tensor
    colours: Tensor
    faces: Tensor
    roots: Tensor


def shoulders(vertices: Tensor, faces: Tensor, boundary: Tensor, look: Look, draw: Draw) -> Torso:
    """Rings from the bust's rim outwards over the shoulders and down. boundary [V] bool."""
    rim = _rim(faces, boundary)
    centre = vertices.new_tensor([0.0, 0.0, AXIS_Z])
    p = vertices[rim] - centre
    order = torch.atan2(p[:, 0], p[:, 2]).argsort()
    rim, p = rim[order], p[order]
    angle = torch.atan2(p[:, 0], p[:, 2])
    theta = torch.linspace(-math.pi, math.pi, ANGLES + 1, device=p.device)[:-1]
    pick = (theta[:, None] - angle[None]).remainder(2 * math.pi)
    pick = torch.minimum(pick, 2 * math.pi - pick).argmin(1)
    start = _smooth_ring(torch.stack([p[pick, :][:, [0, 2]].norm(dim=1), p[pick, 1]], 1))
    wide, deep = draw.uniform(0.185, 0.235), draw.uniform(0.095, 0.125)
    end = 1 / ((theta.sin().abs() / wide) ** 2.6 + (theta.cos().abs() / deep) ** 2.6) ** (1 / 2.6)
    end = torch.maximum(end, start[:, 0] + 0.012)
    slope = draw.uniform(0.22, 0.42)
    rings = []
    for k in range(RINGS):
        s = k / (RINGS - 4)
        if k == 0:
            r, y = start[:, 0] - 0.008, start[:, 1] + 0.004
        elif s <= 1:
            r = start[:, 0] + THICKNESS + (end - start[:, 0]) * math.sin(s * math.pi / 2)
            fall = slope * (r - start[:, 0]) + 0.075 * (1 - math.cos(s * math.pi / 2))
            y = start[:, 1] - fall
        else:
            r, y = end * (1 + 0.03 * (s - 1)), rings[-1][:, 1] + (BOTTOM - rings[-1][:, 1]) * 0.5
            y = torch.full_like(y, BOTTOM) if k == RINGS - 1 else y
        rings.append(torch.stack([r * theta.sin(), y, r * theta.cos() + AXIS_Z], 1))
    points = torch.stack(rings).flatten(0, 1)
    index = torch.arange(RINGS * ANGLES, device=p.device).view(RINGS, ANGLES)
    a, b = index[:-1], index[1:]
    a2, b2 = a.roll(-1, 1), b.roll(-1, 1)
    mesh = torch.cat([torch.stack([a, b, a2], -1), torch.stack([a2, b, b2], -1)]).view(-1, 3)
    colours = look.cloth.to(points) * torch.ones_like(points)
    if look.striped:
        band = torch.arange(RINGS, device=points.device).repeat_interleave(ANGLES) // 2 % 2 == 1
        colours = torch.where(band[:, None], look.trim.to(points), colours)
    roots = rim[pick].repeat(RINGS)
    return Torso(points, vertex_normals(points, mesh), colours.clamp(0, 1), mesh, roots)


def _rim(faces: Tensor, boundary: Tensor) -> Tensor:
    """Vertices of the bust's open edge: their edge belongs to one face only."""
    near = faces[boundary[faces].any(1)]
    pairs = torch.cat([near[:, [0, 1]], near[:, [1, 2]], near[:, [2, 0]]]).sort(1).values
    unique, count = torch.unique(pairs, dim=0, return_counts=True)
    alone = unique[count == 1]
    return torch.unique(alone[boundary[alone].all(1)])


def _smooth_ring(values: Tensor, rounds: int = 3) -> Tensor:
    for _ in range(rounds):
        values = 0.5 * values + 0.25 * (values.roll(1, 0) + values.roll(-1, 0))
    return values
