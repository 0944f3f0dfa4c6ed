"""Cloths about the head: a scarf over hair, ears and neck; a turban or head wrap; a knotted bandana."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from omega_cli.data.studio.cloth import ANGLES, RINGS, Torso
from omega_cli.data.studio.hats import (
    CENTRE,
    RIBS,
    UP,
    Hat,
    Sheet,
    cloth_colour,
    grid_faces,
    joined,
    reach_of,
    skull_of,
)
from omega_cli.data.studio.look import Draw
from omega_cli.geometry.mesh import vertex_normals

SCARVES = ("bandana", "turban")
AROUND, DEEP = 112, 34  # grid of the hood: about the face, from its edge to the back


def sample_scarf(vertices: Tensor, skin: Tensor, kind: str, draw: Draw) -> Hat:
    """A "bandana" or "turban" that fits the canonical head [V, 3] m; skin [V] bool."""
    skull = skull_of(vertices[skin], kind)
    crown = torch.tensor(CENTRE) + torch.tensor([0.0, 0.095, 0.0])
    root = int((vertices - crown).square().sum(1).argmin())
    s = torch.cat([torch.tensor([0.0, 0.0, 0.03]), torch.linspace(0.08, 1, 25)])
    around = (skull.turn + math.pi).remainder(2 * math.pi) - math.pi  # 0 in front
    colour, other = cloth_colour(draw), cloth_colour(draw)
    if kind == "bandana":
        crease = 0.0012 * (9 * s[:, None] + 2.5 * around.abs()).sin()
        off = 0.0045 + crease + 0.004 * s[:, None] ** 2
        off[0] = 0.001
        points = skull.shell(s, off)
        tint = _print(s[:, None].expand(-1, RIBS) * 5, around.expand(len(s), RIBS) * 4.5, colour, other, draw)
        return joined([((points, tint), True), *_tails(points[2, RIBS // 2], colour, draw)], root)
    wraps, lean = draw.uniform(4, 7), draw.uniform(0.25, 0.55)
    phase = wraps * (s[:, None] + lean * around.abs() / math.pi * (1 - s[:, None]))
    ridge = (math.pi * phase).sin().abs()
    bulk = draw.uniform(0.010, 0.026)
    off = 0.006 + bulk * (math.pi * s[:, None].clamp(0.02, 1)).sin() ** 0.7 + 0.0055 * ridge
    off[0] = 0.001
    points = skull.shell(s, off)
    strip = (phase.floor() % 2)[..., None] if draw.chance(0.3) else torch.zeros(*phase.shape, 1)
    tint = (colour + strip * (other - colour)) * (0.72 + 0.28 * ridge[..., None])
    sheets: list[tuple[Sheet, bool]] = [((points, tint), True)]
    if draw.chance(0.4):  # tied over the brow
        sheets.append((_ball(points[9, 0], draw.uniform(0.026, 0.042), colour), True))
    return joined(sheets, root)


def _print(u: Tensor, v: Tensor, colour: Tensor, other: Tensor, draw: Draw) -> Tensor:
    """Plain, dotted or checked cloth [..., 3] at coordinates u, v [...]."""
    kind = draw.one({"plain": 1.0, "dots": 1.0, "checks": 0.7})
    dots = (2 * math.pi * u).sin() * (2 * math.pi * v).sin() > 0.35
    checks = ((u * 1.2).floor() + (v * 1.2).floor()) % 2 > 0
    amount = {"plain": torch.zeros_like(u), "dots": 1.0 * dots, "checks": 0.6 * checks}[kind][..., None]
    return colour + amount * (other - colour)


def _tails(knot: Tensor, colour: Tensor, draw: Draw) -> list[tuple[Sheet, bool]]:
    """A knot at the back [3] and two ends that hang from it."""
    out = [(_ball(knot, 0.012, colour), True)]
    for side in (-1.0, 1.0):
        length, lean = draw.uniform(0.05, 0.10), side * draw.uniform(0.15, 0.5)
        u = torch.linspace(0, 1, 10)[:, None]
        v = torch.linspace(-0.5, 0.5, 6)[None]
        width = 0.010 + 0.020 * u
        wave = 0.004 * (5 * v + 6 * u).sin()
        x = knot[0] + side * 0.006 + lean * length * u + width * v
        y = knot[1] - length * u * (1 - 0.2 * abs(lean)) + 0 * v
        z = knot[2] - 0.008 - 0.012 * (math.pi * u).sin() + wave + 0 * u
        sheet = torch.stack([x, y, z], -1)
        tint = (0.85 * colour).expand_as(sheet)
        out += [((sheet, tint), False), ((sheet.flip(1) + torch.tensor([0, 0, 0.002]), tint), False)]
    return out


def _ball(centre: Tensor, radius: float, colour: Tensor) -> Sheet:
    """A knot of cloth: a ball [13, 24] with folds."""
    a, b = torch.linspace(-1.5, 1.5, 13)[:, None], torch.arange(24)[None] * (2 * math.pi / 24)
    ridge = (3 * b + 2.5 * a).sin()
    r = radius * (1 + 0.09 * ridge)
    points = torch.stack([r * a.cos() * b.sin(), 0.85 * r * a.sin(), 0.9 * r * a.cos() * b.cos()], -1)
    return centre + points, colour * (0.86 + 0.14 * ridge[..., None])


def sample_headscarf(
    vertices: Tensor,  # [V, 3] canonical, m
    skin: Tensor,  # [V] bool
    landmarks: Tensor,  # [68, 3]
    torso: Torso,
    draw: Draw,
) -> Hat:
    """A scarf around the face: over hair and ears, under the chin, down on the shoulders."""
    colour = draw.colour(0.7) if draw.chance(0.65) else torch.full((3,), draw.uniform(0.03, 0.85))
    head = vertices[skin & (vertices[:, 1] > -0.12) & (vertices[:, 0].abs() < 0.09)]  # no shoulders
    hood, shade = _hood(head, landmarks, draw)
    drape, folds = _drape(vertices, torso, draw)
    faces = torch.cat([grid_faces(DEEP, AROUND, True), grid_faces(len(drape), ANGLES, True) + DEEP * AROUND])
    points = torch.cat([hood.flatten(0, 1), drape.flatten(0, 1)])
    tint = colour * torch.cat([shade.flatten(), folds.flatten()])[:, None]
    crown = torch.tensor(CENTRE) + torch.tensor([0.0, 0.095, 0.0])
    root = (vertices - crown).square().sum(1).argmin()
    body = torch.nonzero(skin)[:, 0]
    near = body[torch.cdist(points, vertices[body]).argmin(1)]
    return Hat(
        points,
        vertex_normals(points, faces),
        tint.clamp(0, 1),
        faces,
        torch.where(points[:, 1] > -0.03, root, near),
    )


MIDDLE = (0.0, 0.015, -0.012)  # m: what the hood is round about


def _hood(skin: Tensor, landmarks: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    """[DEEP, AROUND, 3] from the face's edge to the back of the head, and how bright its folds are."""
    centre = torch.tensor(MIDDLE)
    t = torch.arange(AROUND) * (2 * math.pi / AROUND)  # 0 over the brow, then the subject's left
    first = _opening(landmarks - centre, t, draw)
    s = torch.cat([torch.tensor([0.0, 0.0]), torch.linspace(0.02, 1, DEEP - 2) ** 1.15])[:, None]
    angle = first + s * (math.pi - first)
    directions = torch.stack([angle.sin() * t.sin(), angle.sin() * t.cos(), angle.cos()], -1)
    radius = reach_of(skin - centre, directions.flatten(0, 1), 0.990).view(angle.shape)
    radius = torch.minimum(radius, (centre[1] + 0.118) / (-directions[..., 1]).clamp_min(1e-3))
    tight = radius
    for _ in range(4):
        radius = 0.5 * radius + 0.25 * (radius.roll(1, 1) + radius.roll(-1, 1))
        radius[1:-1] = 0.5 * radius[1:-1] + 0.25 * (radius[2:] + radius[:-2])
    radius = torch.maximum(radius, tight - 0.002)  # ears stay inside
    edge = reach_of(skin - centre, directions[0], 0.997)  # the hem itself lies on the face
    for _ in range(2):
        edge = 0.5 * edge + 0.25 * (edge.roll(1) + edge.roll(-1))
    radius[:2] = edge
    fold = (2 * math.pi * (draw.uniform(4, 7) * s + 0.35 * (2 * t + draw.uniform(0, 6)).sin())).sin()
    fold = fold * (s * 8).clamp(0, 1) * ((1 - s) * 2.5).clamp(0, 1)  # the back is drawn smooth
    knot = draw.uniform(0.006, 0.028) * torch.exp(-(((angle - 2.35) / 0.55) ** 2)) * (0.6 + 0.4 * t.cos())
    off = draw.uniform(0.006, 0.010) + 0.0016 * fold + knot
    off[0] = 0.0
    return centre + (radius + off)[..., None] * directions, 0.90 + 0.10 * fold


def _opening(landmarks: Tensor, t: Tensor, draw: Draw) -> Tensor:
    """[AROUND] rad from straight ahead: where the cloth begins: hairline, temples, before the ears, under the
    chin. landmarks [68, 3] about the hood's middle."""
    jaw, brows = landmarks[:17], landmarks[17:27]
    high = draw.uniform(0.034, 0.046)
    top = brows + torch.tensor([0.0, 1.0, -0.25]) * high
    temples = brows[[0, 9]] + torch.tensor([[-0.014, 0.012, -0.012], [0.014, 0.012, -0.012]])
    edge = torch.cat([jaw, top[2:8], temples])
    angle = torch.atan2(edge[:, :2].norm(dim=1), edge[:, 2])
    below = (-edge[:, 1] / edge[:, :2].norm(dim=1)).clamp(0, 1)
    angle = angle * (0.90 + 0.16 * below**2)  # over the cheek's edge, and well under the chin
    angle = angle.clamp(0.5, 1.25)
    apart = (torch.atan2(edge[:, 0], edge[:, 1]) - t[:, None] + math.pi).remainder(2 * math.pi) - math.pi
    near = torch.exp(-((apart / 0.20) ** 2)) + 1e-6
    return (near * angle).sum(1) / near.sum(1)


def _drape(vertices: Tensor, torso: Torso, draw: Draw) -> tuple[Tensor, Tensor]:
    """[R, ANGLES, 3] from under the jaw over the shoulders, and how bright its folds are."""
    grid, normal = torso.vertices.view(RINGS, ANGLES, 3), torso.normals.view(RINGS, ANGLES, 3)
    last = int(draw.uniform(6, 12))
    turn = torch.linspace(-math.pi, math.pi, ANGLES + 1)[:-1]
    u = torch.linspace(0, 1, last)[:, None]
    fold = (draw.uniform(7, 12) * turn + draw.uniform(0, 6) + 5 * u).sin() * (0.4 + u)
    cape = grid[1 : last + 1] + (0.009 + 0.0035 * fold - 0.006 * u**6)[..., None] * normal[1 : last + 1]
    axis = torch.tensor([0.0, 0.0, -0.030])
    level = vertices[(vertices[:, 1] < -0.07) & (vertices[:, 1] > -0.125) & (vertices[:, 2] < 0.055)] - axis
    flat = torch.stack([turn.sin(), torch.zeros(ANGLES), turn.cos()], 1)
    around = reach_of(level * torch.tensor([1.0, 0.0, 1.0]), flat, 0.97)
    for _ in range(6):
        around = 0.5 * around + 0.25 * (around.roll(1) + around.roll(-1))
    top = axis + (around + 0.012)[:, None] * flat - (0.083 + 0.018 * turn.cos().clamp_min(0))[:, None] * UP
    v = torch.linspace(0, 0.94, 8)[:, None]
    wrap = (2 * math.pi * 2.5 * v + 1.6 * turn.cos() + draw.uniform(0, 6)).sin()
    neck = top + (v[..., None] ** 0.8) * (cape[0] - top) + (0.0035 * wrap)[..., None] * flat
    drape = torch.cat([neck, cape]).flip(0)  # rows run up, as `grid_faces` has them
    return drape, torch.cat([0.90 + 0.10 * wrap, 0.92 + 0.08 * fold]).flip(0)
