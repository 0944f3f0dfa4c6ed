"""Tight coils: hair that stands off the head as a cloud of small springs over a dark core."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.data.studio.hair import Ribbons, Strands

NODES, TURNS = 8, 1.4  # of one spring
MIDDLE = (0.0, 0.050, -0.018)  # m: what an afro is round about


def outward(points: Tensor, normals: Tensor) -> Tensor:
    """[..., 3] unit: where hair of this kind stands to: off the skin, and away from the head's middle."""
    away = F.normalize(points - points.new_tensor(MIDDLE), dim=-1)
    return F.normalize(0.45 * normals + away + points.new_tensor([0.0, 0.10, 0.0]), dim=-1)


def coils(
    roots: tuple[Tensor, Tensor, Tensor],  # positions, normals, vertices of N springs
    height: Tensor,  # [N] m of the cloud over each
    inside: Tensor,  # [N] in [0, 1]: how far from the hairline
    radius: float,  # m of a spring
    width: float,  # m of its ribbon
    generator: torch.Generator,
) -> Strands:
    """N springs, most of them near the cloud's surface, lying every way."""
    p, n, vertex = roots
    N, way = len(p), outward(p, n)

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator).to(p)

    least = 0.30 * inside
    level = least + (1 - least) * random(N) ** (1 - 0.5 * inside)  # at the hairline down to the skin
    level = level + 0.10 * (random(N) > 0.93) * random(N)  # a few fly away
    middle = p + (height * level)[:, None] * way
    axis = F.normalize(0.8 * way + torch.randn(N, 3, generator=generator).to(p), dim=-1)
    a = F.normalize(torch.linalg.cross(axis, way + 0.01), dim=-1)
    b = torch.linalg.cross(axis, a)
    own = radius * (0.65 + 0.7 * random(N, 1, 1))
    angle = 2 * math.pi * (TURNS * torch.linspace(0, 1, NODES, device=p.device) + random(N, 1))[..., None]
    spoke = angle.cos() * a[:, None] + angle.sin() * b[:, None]
    rise = torch.linspace(-0.9, 0.9, NODES, device=p.device)[None, :, None] * own * axis[:, None]
    taper = torch.linspace(0, math.pi, NODES, device=p.device).sin().clamp_min(0).sqrt() * 0.8 + 0.2
    taper[0] = taper[-1] = 0.05
    normals = F.normalize(0.75 * spoke + 0.55 * way[:, None], dim=-1)
    return Strands(middle[:, None] + own * spoke + rise, normals, width * taper.expand(N, NODES), vertex)


def core(
    vertices: Tensor,  # [V, 3]
    normals: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
    inside: Tensor,  # [V] in [0, 1]: how far from the hairline
    height: Tensor,  # [V] m
    generator: torch.Generator,
) -> Ribbons:
    """The inside that the springs hide: the scalp, raised. Every vertex twice, as ribbons have them."""
    used = faces[(inside[faces] > 0.5).all(1)]  # at the hairline it would only be a black edge
    index = torch.unique(used)
    place = torch.full((len(vertices),), -1, dtype=torch.long, device=vertices.device)
    place[index] = torch.arange(len(index), device=vertices.device)
    way = outward(vertices[index], normals[index])
    rough = 0.72 + 0.10 * torch.randn(len(index), generator=generator).to(vertices).clamp(-2, 2)
    points = vertices[index] + (height[index] * rough)[:, None] * way
    lean = torch.randn(len(index), 3, generator=generator).to(vertices)
    V = len(index)
    zero = torch.zeros(2 * V, device=vertices.device)

    def twice(values: Tensor) -> Tensor:
        return values.repeat_interleave(2, 0)

    return Ribbons(
        vertices=twice(points),
        normals=twice(F.normalize(way + 0.35 * lean, dim=-1)),
        tangents=twice(F.normalize(torch.linalg.cross(way, lean) + 1e-6, dim=-1)),
        uv=twice(torch.rand(V, 2, generator=generator).to(vertices)),
        along=zero,
        tint=zero - 0.5,
        roots=twice(index),
        faces=2 * place[used],
    )
