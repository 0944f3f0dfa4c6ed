"""Mending the geometry of VALID heads: caps over the cut arms, and the teeth that a mouth can show."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from omega_cli.geometry.camera import orthographic
from omega_cli.geometry.raster import rasterize_views

WELD = 2e-5  # m: vertices nearer than this are one, cut apart for the UV layout
ARM_X = 0.15  # m: a rim whose middle lies further to the side is a cut arm
RINGS = 4  # of a cap
REACH, DROP = 0.9, -0.5  # how far a cap bulges, in radii of the rim, and how much downwards
TEETH_VIEWS = ((0.0, 0.0), (35.0, 0.0), (-35.0, 0.0), (15.0, 12.0), (-15.0, 12.0), (0.0, -20.0))  # degrees


def rims(vertices: Tensor, faces: Tensor) -> list[Tensor]:
    """Closed boundary loops (vertex indices in order) of a mesh [V, 3], [F, 3]; seams of the UV layout are
    none."""
    _, weld = torch.unique((vertices / WELD).round().long(), dim=0, return_inverse=True)
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    welded = weld[edges]
    _, inverse, count = torch.unique(welded.sort(1).values, dim=0, return_inverse=True, return_counts=True)
    following: dict[int, tuple[int, int]] = {}  # welded vertex -> (the next one, a vertex that is it)
    for (a, b), own in zip(
        welded[count[inverse] == 1].tolist(), edges[count[inverse] == 1].tolist(), strict=True
    ):
        following[a] = (b, own[0])
    found, left = [], dict(following)
    while left:
        start = next(iter(left))
        loop, at = [], start
        while at in left:
            at, own = left.pop(at)
            loop.append(own)
        if at == start and len(loop) > 2:
            found.append(torch.tensor(loop))
    return found


def arm_caps(base: Tensor, faces: Tensor, uv: Tensor, head_count: int) -> tuple[Tensor, Tensor, Tensor]:
    """base [N, B, 3], faces, uv [B, 2] with a dome over each cut arm, coloured as the sleeve's upper edge.

    A dome's vertices are fixed weighted sums of its rim's, so blends of heads have blends of the domes.
    """
    mean = base.mean(0)
    own = faces[(faces < head_count).all(1)]
    for rim in rims(mean[:head_count], own):
        middle = mean[rim].mean(0)
        if abs(float(middle[0])) < ARM_X:
            continue
        around = base[:, rim]  # [N, R, 3]
        centre = around.mean(1, keepdim=True)
        radius = float((mean[rim] - middle).norm(dim=1).mean())
        out = torch.tensor([math.copysign(1.0, float(middle[0])), DROP, 0.0])
        rings, count, start = [around], len(rim), base.shape[1]
        for k in range(1, RINGS):
            angle = 0.5 * math.pi * k / RINGS
            rings.append(
                centre + (around - centre) * math.cos(angle) + out * radius * REACH * math.sin(angle)
            )
        rings.append(centre + out * radius * REACH)
        top = rim[mean[rim, 1].argmax()]
        new = torch.cat(rings, 1)
        base = torch.cat([base, new], 1)
        uv = torch.cat([uv, uv[top].expand(new.shape[1], 2)])
        faces = torch.cat([faces, start + _dome(count)])
    return base, faces, uv


def _dome(count: int) -> Tensor:
    """Faces of RINGS rings of `count` vertices and a pole. The rim runs as its faces do, so the dome's run
    against it."""
    i = torch.arange(count)
    j = (i + 1) % count
    faces = []
    for k in range(RINGS - 1):
        a, b, c, d = k * count + i, k * count + j, (k + 1) * count + i, (k + 1) * count + j
        faces += [torch.stack([b, a, d], 1), torch.stack([d, a, c], 1)]
    last, pole = (RINGS - 1) * count, torch.full((count,), RINGS * count)
    faces.append(torch.stack([last + j, last + i, pole], 1))
    return torch.cat(faces)


def visible_faces(vertices: Tensor, faces: Tensor, size: int = 256) -> Tensor:
    """[F] bool: seen from some direction of TEETH_VIEWS, were nothing before it."""
    low, high = vertices.min(0).values, vertices.max(0).values
    half = float((high - low).max()) / 2 * 1.1
    cameras = [orthographic(a, size, half, (low + high) / 2, e) for a, e in TEETH_VIEWS]
    seen = rasterize_views(vertices, faces, cameras).face_index
    out = torch.zeros(len(faces), dtype=torch.bool)
    out[seen[seen >= 0].long()] = True
    return out
