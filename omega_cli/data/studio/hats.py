"""Hats: shells about the skull from a brim to the crown: knitted ones, caps with a peak, hats with a brim."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.data.studio.look import Draw
from omega_cli.geometry.mesh import vertex_normals

RIBS, RINGS = 96, 16
CENTRE = (0.0, 0.040, -0.018)  # m: the middle of the template's skull
# The brim's plane: m over the origin, rise per m towards the face: low at the nape, clear of ears and brows.
BRIMS = {
    "knit": (0.044, 0.43),
    "cap": (0.050, 0.34),
    "brim": (0.058, 0.20),
    "bandana": (0.046, 0.40),
    "turban": (0.040, 0.42),
}


@dataclass(frozen=True)
class Hat:
    """vertices, normals [V, 3] canonical m, V even; colours [V, 3] sRGB; faces [F, 3]; roots [V]: the head
    vertices that carry it."""

    vertices: Tensor
    normals: Tensor
    colours: Tensor
    faces: Tensor
    roots: Tensor


def above_brim(points: Tensor, kind: str) -> Tensor:
    """[...] m over the plane of that hat's brim."""
    height, rise = BRIMS[kind]
    return points[..., 1] - (height + rise * points[..., 2])


@dataclass(frozen=True)
class Skull:
    """The skull in polar form: turn [RIBS] rad about the vertical (0: front); flat [RIBS, 3]: level
    directions; low [RIBS] rad: how far over the level the brim lies; reach(directions [D, 3]) -> [D] m."""

    turn: Tensor
    flat: Tensor
    low: Tensor
    reach: Callable[[Tensor], Tensor]

    def shell(self, s: Tensor, off: Tensor) -> Tensor:
        """Points [R, RIBS, 3] at s [R] from brim (0) to crown (1), `off` [R, RIBS] m off the skull."""
        angle = self.low + s[:, None] * (math.pi / 2 - self.low)
        directions = angle.cos()[..., None] * self.flat + angle.sin()[..., None] * UP
        radius = self.reach(directions.flatten(0, 1)).view(len(s), RIBS)
        for _ in range(3):
            radius = 0.5 * radius + 0.25 * (radius.roll(1, 1) + radius.roll(-1, 1))
        return torch.tensor(CENTRE) + (radius + off)[..., None] * directions


UP = torch.tensor([0.0, 1.0, 0.0])


def skull_of(points: Tensor, kind: str) -> Skull:
    """points [P, 3] m of the skin without ears."""
    centre = torch.tensor(CENTRE)
    away = points - centre
    turn = torch.arange(RIBS) * (2 * math.pi / RIBS)
    flat = torch.stack([turn.sin(), torch.zeros(RIBS), turn.cos()], 1)
    reach = reach_of(away, F.normalize(flat + 0.3 * UP, dim=1))
    brim = centre + reach[:, None] * flat  # about there the brim's plane is met
    slope = (1 - BRIMS[kind][1] * flat[:, 2]).clamp_min(0.4)
    low = torch.atan2(-above_brim(brim, kind), reach * slope)
    return Skull(turn, flat, low, lambda directions: reach_of(away, directions))


def sample_hat(vertices: Tensor, skin: Tensor, kind: str, draw: Draw) -> Hat:
    """A hat ("knit", "cap", "brim") that fits the canonical head [V, 3] m; skin [V] bool."""
    skull = skull_of(vertices[skin], kind)
    parts = {"knit": _knit, "cap": _cap, "brim": _brimmed}[kind](skull, draw)
    crown = torch.tensor(CENTRE) + torch.tensor([0.0, 0.095, 0.0])
    return joined(parts, int((vertices - crown).square().sum(1).argmin()))


Sheet = tuple[Tensor, Tensor]
"""Points [R, C, 3] m of a grid and its colours, the same shape."""


def joined(sheets: list[tuple[Sheet, bool]], root: int) -> Hat:
    """Grids as one mesh; True: the grid closes around."""
    points, normals, colours, faces, start = [], [], [], [], 0
    for (grid, tint), closed in sheets:
        flat = grid.flatten(0, 1)
        own = grid_faces(len(grid), grid.shape[1], closed)
        points.append(flat)
        normals.append(vertex_normals(flat, own))
        colours.append(tint.flatten(0, 1))
        faces.append(own + start)
        start += len(flat)
    roots = torch.full((start,), root)
    return Hat(torch.cat(points), torch.cat(normals), torch.cat(colours).clamp(0, 1), torch.cat(faces), roots)


def grid_faces(rows: int, columns: int, closed: bool) -> Tensor:
    """[F, 3] of a grid, seen from outside when columns run to the left and rows up."""
    index = torch.arange(rows * columns).view(rows, columns)
    here, there = index[:-1], index[1:]
    here2, there2 = here.roll(-1, 1), there.roll(-1, 1)
    if not closed:
        here, there, here2, there2 = (v[:, :-1] for v in (here, there, here2, there2))
    return torch.cat(
        [torch.stack([here, here2, there], -1), torch.stack([here2, there2, there], -1)]
    ).flatten(0, 1)


def cloth_colour(draw: Draw) -> Tensor:
    """[3] sRGB: any, or a grey one."""
    return draw.colour(0.8) if draw.chance(0.6) else torch.full((3,), draw.uniform(0.04, 0.6))


def _fold(rings: int) -> Tensor:
    """Heights [rings] with a turned-up edge: out, up, and in again."""
    s = torch.linspace(0, 1, rings - 2)
    return torch.cat([torch.tensor([0.0, 0.0, 0.07, 0.17, 0.185]), s[3:]])


def _knit(skull: Skull, draw: Draw) -> list[tuple[Sheet, bool]]:
    s = _fold(RINGS)
    thick = torch.full((len(s), 1), draw.uniform(0.006, 0.010))
    thick[0], thick[1:4] = 0.001, thick[1:4] + 0.004
    slack = draw.uniform(0.0, 0.022) * s[:, None] ** 3  # the crown stands off
    ribs = (skull.turn * RIBS / 4).cos()
    points = skull.shell(s, thick + slack + 0.0006 * ribs)
    tint = cloth_colour(draw) * (1 + 0.07 * ribs)[None, :, None].expand(len(s), RIBS, 1)
    return [((points, tint), True)]


def _cap(skull: Skull, draw: Draw) -> list[tuple[Sheet, bool]]:
    """Six panels, a button, and a peak to the front (sometimes the back)."""
    s = torch.cat([torch.tensor([0.0, 0.0]), torch.linspace(0.05, 1, 15)])
    stiff = draw.uniform(0.004, 0.020)
    front = skull.turn.cos().clamp_min(0) ** 2
    off = 0.006 + stiff * front * (math.pi * s[:, None].clamp(0, 0.9)).sin() + 0.006 * s[:, None] ** 2
    off = torch.where(s[:, None] > 0.97, off + 0.003, off)  # the button
    off[0] = 0.001
    points = skull.shell(s, off.expand(len(s), RIBS))
    colour, other = cloth_colour(draw), cloth_colour(draw)
    trucker, twin = draw.chance(0.25), draw.chance(0.4)
    seam = 1 - 0.30 * torch.exp(-(((((skull.turn / (math.pi / 3)) - 0.5).remainder(1.0) - 0.5) * 14) ** 2))
    behind = ((skull.turn.cos() < 0.3) & torch.tensor(trucker)).float()[:, None]
    tint = (colour + behind * (other - colour)) * seam[:, None]
    sheet = (points, tint.expand(len(s), RIBS, 3).clone())
    if draw.chance(0.5):  # a badge
        near = torch.exp(-((skull.turn + math.pi).remainder(2 * math.pi) - math.pi).square() / 0.05)
        badge = (near * ((s - 0.32).abs() < 0.13)[:, None])[..., None] > 0.5
        sheet = (points, torch.where(badge, other.expand_as(tint), sheet[1]))
    back = draw.chance(0.18)
    peak = _peak(points[1], skull, draw.uniform(0.055, 0.078), draw.uniform(0.3, 1.0), back)
    tint = (other if twin else colour).expand_as(peak)
    low = peak - torch.tensor([0.0, 0.0025, 0.0])
    return [(sheet, True), ((peak, tint), False), ((low.flip(1), 0.8 * tint), False)]


def _peak(edge: Tensor, skull: Skull, length: float, bend: float, back: bool) -> Tensor:
    """[9, 33, 3]: a sheet that leaves the edge [RIBS, 3] of a cap forwards, bent down at its sides."""
    side = torch.linspace(-1, 1, 33)
    turn = 1.12 * side + (math.pi if back else 0.0)
    place = (turn / (2 * math.pi) * RIBS).remainder(RIBS)
    low = place.long() % RIBS
    base = torch.lerp(edge[low], edge[(low + 1) % RIBS], (place - place.floor())[:, None])
    ahead = torch.stack([0.42 * turn.sin(), torch.zeros(33), turn.cos()], 1)
    ahead = F.normalize(ahead - torch.tensor([0.0, 0.16, 0.0]), dim=1)
    reach = length * (1 - side.abs() ** 2.6).clamp_min(0) ** 0.5
    u = torch.linspace(0, 1, 9)[:, None]
    sheet = base + (u * reach)[..., None] * ahead
    return sheet - (0.020 * bend * side.square() * u)[..., None] * UP


def _brimmed(skull: Skull, draw: Draw) -> list[tuple[Sheet, bool]]:
    """A crown with a band, and a brim all around: from a fedora to a sun hat."""
    s = torch.cat([torch.tensor([0.0, 0.0, 0.04, 0.16, 0.17]), torch.linspace(0.22, 1, 13)])
    tall, soft = draw.uniform(0.014, 0.034), draw.chance(0.5)
    lift = tall * (s[:, None] / 0.7).clamp(0, 1) ** 0.8
    pinch = 0.0 if soft else 0.016
    dent = pinch * torch.exp(-(((s[:, None] - 0.92) / 0.12) ** 2)) * (1 - 0.6 * skull.turn.cos().abs())
    off = (0.006 + lift - dent).expand(len(s), RIBS).clone()
    off[0], off[2:4] = 0.001, off[2:4] + 0.0012
    points = skull.shell(s, off)
    colour, band = cloth_colour(draw), draw.colour(0.5) * 0.6
    tint = torch.where(((s > 0.03) & (s < 0.165))[:, None, None], band, colour).expand(len(s), RIBS, 3)
    width, droop = draw.uniform(0.040, 0.085), draw.uniform(-0.35, 0.45)
    u = torch.linspace(0, 1, 7)[:, None]
    edge = points[1]
    sides = skull.turn.sin().square()
    sag = (droop if soft else 0.1) * u**1.4 - (0.0 if soft else 0.45) * sides * u**2
    brim = edge + (width * u)[..., None] * skull.flat - (width * sag)[..., None] * UP
    low = brim - 0.003 * UP
    shade = colour.expand(7, RIBS, 3)
    return [((points, tint), True), ((brim.flip(0), shade), True), ((low, 0.8 * shade), True)]


def reach_of(points: Tensor, directions: Tensor, narrow: float = 0.985) -> Tensor:
    """[D] how far points [P, 3] about the origin come in unit directions [D, 3] (cosine `narrow` counts)."""
    distance = points.norm(dim=1)
    near = directions @ (points / distance[:, None]).T > narrow
    return torch.where(near, distance, 0.0).amax(1)
