"""A UV-mapped ellipsoid: small, closed, with a seam, and every texel's place known in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor


@dataclass(frozen=True)
class Ball:
    vertices: Tensor
    faces: Tensor
    uvs: Tensor
    uv_faces: Tensor


def make_ball(
    rows: int = 32, columns: int = 64, radii: tuple[float, float, float] = (0.08, 0.11, 0.09)
) -> Ball:
    """u runs with the azimuth (0.5 faces +z, larger u towards +x), v from the top pole down."""
    v, u = torch.meshgrid(torch.linspace(0, 1, rows + 1), torch.linspace(0, 1, columns + 1), indexing="ij")
    polar, azimuth = v * math.pi, (u - 0.5) * 2 * math.pi
    direction = torch.stack([polar.sin() * azimuth.sin(), polar.cos(), polar.sin() * azimuth.cos()], -1)
    index = torch.arange((rows + 1) * (columns + 1)).view(rows + 1, columns + 1)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    uv_faces = torch.cat([torch.stack([a, c, b], -1).view(-1, 3), torch.stack([b, c, d], -1).view(-1, 3)])
    weld = index.clone()
    weld[:, -1] = index[:, 0]
    faces = weld.flatten()[uv_faces]
    vertices = (direction * torch.tensor(radii)).view(-1, 3)
    keep = (vertices[faces[:, 1]] - vertices[faces[:, 0]]).norm(dim=1) > 1e-6
    keep &= (vertices[faces[:, 2]] - vertices[faces[:, 0]]).norm(dim=1) > 1e-6
    keep &= (vertices[faces[:, 2]] - vertices[faces[:, 1]]).norm(dim=1) > 1e-6
    return Ball(vertices, faces[keep], torch.stack([u, v], -1).view(-1, 2), uv_faces[keep])


@pytest.fixture(scope="session")
def ball() -> Ball:
    return make_ball()
