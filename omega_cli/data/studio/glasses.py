"""Spectacles: two rims before the eyes, a bridge, and temples that run to the ears."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.data.studio.look import Draw
from omega_cli.geometry.mesh import vertex_normals

SIDES = 6  # of a tube's cross-section


@dataclass(frozen=True)
class Glasses:
    """vertices, normals [V, 3] canonical m; faces [F, 3]; colour [3] sRGB; root: the head vertex (on the
    bridge of the nose) that carries them."""

    vertices: Tensor
    normals: Tensor
    faces: Tensor
    colour: Tensor
    root: int


def sample_glasses(
    landmarks: Tensor,  # [68, 3] canonical, m
    vertices: Tensor,  # [V, 3]
    ears: tuple[Tensor, Tensor],  # highest ear points [3], left and right
    draw: Draw,
) -> Glasses:
    """A random frame that fits: round to square rims, thin wire to thick plastic."""
    width, height = draw.uniform(0.0215, 0.0255), draw.uniform(0.016, 0.0225)
    power = draw.uniform(2.0, 5.0)
    thick = draw.uniform(0.0007, 0.0021)
    bridge_point = landmarks[27]
    front = float(torch.maximum(landmarks[27, 2], landmarks[17:27, 2].amax() - 0.002)) + 0.007
    y = float(landmarks[36:48, 1].mean()) - 0.003
    tubes = []
    for eye, ear, side in ((landmarks[42:48], ears[0], 1.0), (landmarks[36:42], ears[1], -1.0)):
        x = float(eye[:, 0].mean()) + side * 0.0015
        t = torch.linspace(0, 2 * math.pi, 41)
        rim = torch.stack(
            [
                x + width * t.cos().abs() ** (2 / power) * t.cos().sign(),
                y + height * t.sin().abs() ** (2 / power) * t.sin().sign(),
                front - 0.10 * (t.cos() * side * width + width * 0.5).clamp_min(0) ** 1.3,
            ],
            1,
        )
        tubes.append((rim, True))
        hinge = torch.tensor([x + side * width, y + 0.35 * height, front - 0.008])
        over = ear + torch.tensor([side * 0.002, 0.0, 0.0])
        outer = torch.tensor([max(abs(float(hinge[0])), abs(float(over[0]))) * side, float(over[1]), 0.035])
        bend = torch.stack([hinge, 0.5 * (hinge + outer) + torch.tensor([side * 0.003, 0, 0]), outer, over])
        tubes.append((_resampled(bend, 16), False))
    left, right = float(landmarks[42:48, 0].mean()) - width, float(landmarks[36:42, 0].mean()) + width
    s = torch.linspace(0, 1, 9)
    bridge = torch.stack(
        [right + (left - right) * s, y + 0.004 + 0.004 * (math.pi * s).sin(), torch.full_like(s, front)], 1
    )
    tubes.append((bridge, False))
    points, faces, start = [], [], 0
    for line, closed in tubes:
        v, f = _tube(line, thick, closed)
        points.append(v)
        faces.append(f + start)
        start += len(v)
    every, mesh = torch.cat(points), torch.cat(faces)
    colour = draw.colour(0.9) * 0.6 if draw.chance(0.5) else torch.full((3,), draw.uniform(0.02, 0.25))
    root = int((vertices - bridge_point).square().sum(1).argmin())
    return Glasses(every, vertex_normals(every, mesh), mesh, colour, root)


def _resampled(points: Tensor, count: int) -> Tensor:
    """A polyline at `count` even places."""
    return F.interpolate(points.T[None], size=count, mode="linear", align_corners=True)[0].T


def _tube(line: Tensor, radius: float, closed: bool) -> tuple[Tensor, Tensor]:
    """A round tube about a polyline [N, 3]."""
    tangent = F.normalize(torch.gradient(line, dim=0)[0], dim=-1)
    if closed:
        tangent[0] = tangent[-1] = F.normalize(line[1] - line[-2], dim=0)
    helper = torch.tensor([0.0, 0.0, 1.0]).expand_as(tangent)
    helper = torch.where(tangent[:, 2:].abs() > 0.9, torch.tensor([0.0, 1.0, 0.0]), helper)
    a = F.normalize(torch.linalg.cross(tangent, helper), dim=-1)
    b = torch.linalg.cross(tangent, a)
    angle = torch.arange(SIDES) * (2 * math.pi / SIDES)
    ring = a[:, None] * angle.cos()[None, :, None] + b[:, None] * angle.sin()[None, :, None]
    vertices = (line[:, None] + radius * ring).flatten(0, 1)
    index = torch.arange(len(line) * SIDES).view(len(line), SIDES)
    here, there = index[:-1], index[1:]
    here2, there2 = here.roll(-1, 1), there.roll(-1, 1)
    faces = torch.cat([torch.stack([here, there, here2], -1), torch.stack([here2, there, there2], -1)])
    return vertices, faces.flatten(0, 1)
