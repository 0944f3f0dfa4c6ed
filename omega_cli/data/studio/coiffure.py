"""All the hair of one person: what grows, is tied, plaited or coiled, as ribbons."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.data.studio import cloth, coils, hair, hats, ropes
from omega_cli.data.studio.look import Draw
from omega_cli.data.studio.noise import smoothstep
from omega_cli.data.studio.styles import Style
from omega_cli.head.model import HeadModel


@dataclass(frozen=True)
class Ground:
    """What hair grows on: the canonical head [V, 3] m, its normals, and where hair lies."""

    model: HeadModel
    vertices: Tensor
    normals: Tensor
    anchors: hair.Anchors
    hat: str = ""

    def ribbons(self, strands: hair.Strands, generator: torch.Generator, roll: float = 0.7) -> hair.Ribbons:
        """`hair.ribbons` of what the hat leaves to be seen."""
        if self.hat:
            x, y, z = strands.points.unbind(-1)
            brow = (z > 0.030) & (x.abs() < self.anchors.eye_x + 0.012) & (y > self.anchors.eye_y)
            below = (hats.above_brim(strands.points, self.hat) < 0.001) & ~brow
            strands = replace(strands, width=strands.width * below)
        return hair.ribbons(strands, generator, roll)

    def roots(self, density: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """`hair.sample_roots` by density [F]."""
        return hair.sample_roots(self.vertices, self.normals, self.model.faces, density, count, generator)


def make_ground(model: HeadModel, canonical: Tensor, normals: Tensor, torso: cloth.Torso, hat: str) -> Ground:
    points = model.landmark_points(canonical, "ibug68")
    eyes = points[36:48]
    regions = model.regions
    lying = regions["face"] | regions["neck"] | regions["scalp"]
    lying = lying & ~regions["lips"] & ~regions["mouth_inside"] & ~regions["eyes"]
    index = torch.nonzero(lying)[:, 0][::5]
    keep = torch.nonzero(torso.vertices[:, 1] > -0.30)[::5, 0]
    anchors = hair.Anchors(
        float(eyes[:, 1].mean()),
        float(eyes[:, 0].abs().max()),
        torch.cat([canonical[index], torso.vertices[keep]]),
        torch.cat([normals[index], torso.normals[keep]]),
        torch.cat([regions["scalp"][index].float(), torch.zeros(len(keep))]),
    )
    return Ground(model, canonical, normals, anchors, hat)


def at_faces(model: HeadModel, texture: Tensor) -> Tensor:
    """[F] texture value [S, S] in the middle of every face."""
    middle = model.uvs[model.uv_faces].mean(1)
    return F.grid_sample(texture[None, None], (2 * middle - 1)[None, None], align_corners=False)[0, 0, 0]


def dress_head(
    ground: Ground, style: Style, cover: Tensor, draw: Draw, generator: torch.Generator
) -> list[hair.Ribbons]:
    """The hair of a style, as far as a hat lets it be seen. cover [F]: how densely the scalp is covered."""
    if ground.hat:
        style = _pressed(style)
    density = cover.clamp_min(0) ** 1.5
    if ground.hat and style.cut is None and style.flow != "tie" and style.make != "rows":
        # what grows under the hat and is short is not seen
        free = hats.above_brim(ground.vertices[ground.model.faces].mean(1), ground.hat) < 0
        share = float((density * free).sum() / density.sum().clamp_min(1e-6))
        style = replace(style, strands=max(1, int(style.strands * share)))
        cover, density = cover * free, density * free
    if not float(density.sum()) > 1e-3:
        return []
    if style.make == "coils":
        return _cloud(ground, style, cover, density, draw, generator)
    if style.make == "rows":
        return _rows(ground, style, cover, draw, generator)
    if style.make in ("locs", "braids"):
        return _ropes(ground, style, density, draw, generator)
    roots = ground.roots(density, style.strands, generator)
    out = [ground.ribbons(hair.grow(roots, style, ground.anchors, generator), generator)]
    if style.tail in ("bun", "plait"):
        out += _tied(ground, style, draw, generator)
    return out


def _tied(ground: Ground, style: Style, draw: Draw, generator: torch.Generator) -> list[hair.Ribbons]:
    """Buns or plaits at the knots of a style."""
    sides = torch.tensor([1.0, -1.0] if style.knot_aside else [1.0])
    knots = hair.knot_of(style, ground.anchors, style.part + sides)
    index = torch.cdist(knots, ground.vertices).argmin(1)
    normal = ground.normals[index]
    if style.tail == "bun":
        radius, out = draw.uniform(0.026, 0.042), []
        for i, n in zip(index, normal, strict=True):
            centre = ground.vertices[i] + 0.018 * n
            out.append(ground.ribbons(hair.bun(centre, radius, int(i), generator), generator))
        return out
    radius = draw.uniform(0.012, 0.017) * (0.85 if style.knot_aside else 1.15)
    length = draw.uniform(0.20, 0.34)
    forward = 0.9 if draw.chance(0.6) else -0.4
    heading = (0.25 if style.knot_aside else 1.0) * normal
    heading = heading + torch.tensor([0.0, -0.6, forward if style.knot_aside else 0.0])
    start = ground.vertices[index] + 0.7 * radius * normal + torch.tensor([0.0, 0.012, 0.0])
    woven, tuft = ropes.plait(
        start, F.normalize(heading, dim=1), index, length, radius, ground.anchors, generator
    )
    return [ground.ribbons(woven, generator, roll=0.1), ground.ribbons(tuft, generator, roll=0.2)]


def _cloud(
    ground: Ground,
    style: Style,
    cover: Tensor,
    density: Tensor,
    draw: Draw,
    generator: torch.Generator,
) -> list[hair.Ribbons]:
    """Coils over a core; lower at the hairline and over the ears, or a fade cuts the sides short."""
    roots = ground.roots(density, style.strands, generator)
    share = _per_vertex(ground.model, cover)
    rim = smoothstep(_spread(ground.model, share), 0.45, 0.98)

    def height(points: Tensor, near_rim: Tensor) -> Tensor:
        up = smoothstep(points[:, 1], 0.0, 0.075)
        back = smoothstep(points[:, 2], 0.0, -0.06)
        side = style.side + (style.back - style.side) * back
        return (side + (style.top - side) * up) * (0.30 + 0.70 * near_rim)

    springs = coils.coils(
        roots, height(roots[0], rim[roots[2]]), rim[roots[2]], style.curl, style.width, generator
    )
    inner = coils.core(
        ground.vertices,
        ground.normals,
        ground.model.faces,
        rim,
        height(ground.vertices, rim),
        generator,
    )
    return [inner, ground.ribbons(springs, generator, roll=0.3)]


def _per_vertex(model: HeadModel, values: Tensor) -> Tensor:
    """[V] least of the values [F] of each vertex's faces; 0 where none."""
    out = torch.full((len(model.v_template),), 1.0)
    out = out.scatter_reduce(0, model.faces.flatten(), values.repeat_interleave(3), "amin")
    return out * (model.regions["scalp"] | model.regions["face"])


def _spread(model: HeadModel, values: Tensor, rounds: int = 3) -> Tensor:
    """[V] a mean over some rings of neighbours."""
    count = torch.zeros_like(values).index_add(0, model.faces.flatten(), torch.ones(model.faces.numel()))
    for _ in range(rounds):
        mean = values[model.faces].mean(1).repeat_interleave(3)
        values = torch.zeros_like(values).index_add(0, model.faces.flatten(), mean) / count.clamp_min(1)
    return values


def _apart(points: Tensor, count: int) -> Tensor:
    """[count] long: points [N, 3] far from each other, each the farthest from those before it."""
    chosen, distance = [0], (points - points[0]).square().sum(1)
    for _ in range(min(count, len(points)) - 1):
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (points - points[chosen[-1]]).square().sum(1))
    return torch.tensor(chosen)


def _ropes(
    ground: Ground, style: Style, density: Tensor, draw: Draw, generator: torch.Generator
) -> list[hair.Ribbons]:
    """Locs or thin braids from roots spaced evenly over the scalp."""
    many = ground.roots(density, 14 * style.strands, generator)
    index = _apart(many[0], style.strands)
    roots = (many[0][index], many[1][index], many[2][index])
    grown = hair.grow(roots, style, ground.anchors, generator)
    make = ropes.locs if style.make == "locs" else ropes.thin_braids
    return [ground.ribbons(make(grown, style.width, generator), generator, roll=0.05)]


def _rows(
    ground: Ground, style: Style, cover: Tensor, draw: Draw, generator: torch.Generator
) -> list[hair.Ribbons]:
    """Cornrows; the longest go on past the nape as braids."""
    model = ground.model
    scalp = torch.nonzero(model.regions["scalp"] | model.regions["face"])[:, 0]
    mix = ropes.rows(model.v_template[scalp], row_angles(style), 150)
    line, normal = mix @ ground.vertices[scalp], F.normalize(mix @ ground.normals[scalp], dim=-1)
    share = mix @ _per_vertex(model, cover)[scalp]
    line = line + 0.0030 * normal
    radius = style.width * smoothstep(share, 0.3, 0.7)
    roots = scalp[mix[:, 75].argmax(1)]
    out = [ropes.plaited(line, normal, radius, 3.0 * style.width, roots, 2, generator)]
    if style.back > 0:
        ends = line[:, -1]
        heading = F.normalize(normal[:, -1] + torch.tensor([0.0, -0.8, 0.0]), dim=1)
        fall, away = ropes.hanging(ends, heading, style.back, 0.004, ground.anchors, 60)
        t = torch.linspace(0, 1, 60)
        size = style.width * (1 - 0.35 * t) * ((1 - t) * 20).clamp(0, 1).sqrt()
        out.append(
            ropes.plaited(fall, away, size.expand(len(fall), 60), 3.4 * style.width, roots, 1, generator)
        )
    return [ground.ribbons(strands, generator, roll=0.05) for strands in out]


def row_angles(style: Style) -> Tensor:
    """[R] rad: where the rows of a style lie, from ear to ear."""
    return torch.linspace(-1.95, 1.95, style.strands)


def _pressed(style: Style) -> Style:
    """The style as a hat leaves it: flat, and tied low."""
    low = (min(style.knot[0], -0.02), style.knot[1])
    return replace(style, volume=min(style.volume, 0.006), lift=min(style.lift, 0.25), fringe=None, knot=low)
