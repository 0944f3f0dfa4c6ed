"""Knitted hats: a shell about the skull from a turned-up brim to the crown."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.data.studio.look import Draw
from omega_cli.geometry.mesh import vertex_normals

RIBS, RINGS = 96, 16
CENTRE = (0.0, 0.040, -0.018)  # m: the middle of the template's skull
# Hair that a hat goes over: tied, tall and wide hair would come through, long hair look torn off.
UNDER_HATS = ("bald", "buzz", "receding", "crop", "side part", "messy")
OFTEN = 0.16  # of people with such hair


@dataclass(frozen=True)
class Hat:
    """vertices, normals [V, 3] canonical m; colours [V, 3] sRGB; faces [F, 3]; root: the head vertex that
    carries it."""

    vertices: Tensor
    normals: Tensor
    colours: Tensor
    faces: Tensor
    root: int


def wears(style: str, draw: Draw) -> bool:
    """Whether somebody with that hair has a hat on."""
    return style in UNDER_HATS and draw.chance(OFTEN)


def above_brim(points: Tensor) -> Tensor:
    """[...] m over the plane of the brim: low at the nape, clear of ears and brows."""
    return points[..., 1] - (0.044 + 0.43 * points[..., 2])


def sample_hat(vertices: Tensor, skin: Tensor, draw: Draw) -> Hat:
    """A hat that fits the canonical head [V, 3] m; skin [V] bool."""
    centre = vertices.new_tensor(CENTRE)
    turn = torch.arange(RIBS) * (2 * math.pi / RIBS)
    flat = torch.stack([turn.sin(), torch.zeros(RIBS), turn.cos()], 1)
    up = torch.tensor([0.0, 1.0, 0.0])
    reach = _reach(vertices[skin] - centre, F.normalize(flat + 0.3 * up, dim=1))
    brim = centre + reach[:, None] * flat  # about there the brim's plane is met
    low = torch.atan2(-above_brim(brim), reach * (1 - 0.43 * flat[:, 2]).clamp_min(0.4))
    s = torch.linspace(0, 1, RINGS - 2)
    s = torch.cat([torch.tensor([0.0, 0.0, 0.07, 0.17, 0.185]), s[3:]])  # a fold: out, up, and in again
    angle = low + s[:, None] * (math.pi / 2 - low)
    directions = angle.cos()[..., None] * flat + angle.sin()[..., None] * up
    radius = _reach(vertices[skin] - centre, directions.flatten(0, 1)).view(len(s), RIBS)
    for _ in range(3):
        radius = 0.5 * radius + 0.25 * (radius.roll(1, 1) + radius.roll(-1, 1))
    thick = torch.full((len(s), 1), draw.uniform(0.006, 0.010))
    thick[0], thick[1:4] = 0.001, thick[1:4] + 0.004
    slack = draw.uniform(0.0, 0.022) * s[:, None] ** 3  # the crown stands off
    ribs = 0.0006 * torch.cos(turn * RIBS / 4)
    points = (centre + (radius + thick + slack + ribs)[..., None] * directions).flatten(0, 1)
    index = torch.arange(len(points)).view(len(s), RIBS)
    here, there = index[:-1], index[1:]
    here2, there2 = here.roll(-1, 1), there.roll(-1, 1)
    faces = torch.cat([torch.stack([here, here2, there], -1), torch.stack([here2, there2, there], -1)])
    faces = faces.flatten(0, 1)
    knit = 1 + 0.07 * torch.cos(turn * RIBS / 4).repeat(len(s))
    colour = draw.colour(0.8) if draw.chance(0.6) else torch.full((3,), draw.uniform(0.04, 0.6))
    root = int((vertices - centre - torch.tensor([0.0, 0.095, 0.0])).square().sum(1).argmin())
    return Hat(points, vertex_normals(points, faces), (colour * knit[:, None]).clamp(0, 1), faces, root)


def _reach(points: Tensor, directions: Tensor) -> Tensor:
    """[D] how far points [P, 3] about the origin come in unit directions [D, 3]."""
    distance = points.norm(dim=1)
    near = directions @ (points / distance[:, None]).T > 0.985
    return torch.where(near, distance, 0.0).amax(1)
