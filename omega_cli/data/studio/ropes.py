"""Hair in ropes: plaits, cornrows, thin braids and locs, made of fibres about a guide line."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.data.studio.hair import Anchors, Strands, nearest_of, resampled

STRANDS = 3  # of a plait


def frames(line: Tensor, away: Tensor) -> tuple[Tensor, Tensor]:
    """Unit side and out [N, M, 3] of guides [N, M, 3], square to their run; away [N, M, 3] is roughly out."""
    run = F.normalize(torch.gradient(line, dim=1)[0], dim=-1)
    side = F.normalize(torch.linalg.cross(run, away) + 1e-6, dim=-1)
    return side, torch.linalg.cross(side, run)


def plaited(
    line: Tensor,  # [N, M, 3] m: guides, evenly spaced
    away: Tensor,  # [N, M, 3]
    radius: Tensor,  # [N, M] m: half the plait's width; 0: it has ended
    pitch: float,  # m: a whole turn of one strand
    roots: Tensor,  # [N]
    fibres: int,  # ribbons around each of the three strands; 1: flat ones, for what is thin
    generator: torch.Generator,
) -> Strands:
    """Three strands that cross by turns (a curve of one loop across and two in depth)."""
    N = len(line)
    side, out = frames(line, away)
    step = (line[:, 1:] - line[:, :-1]).norm(dim=-1)
    run = F.pad(step.cumsum(1), (1, 0)) / pitch + torch.rand(N, 1, generator=generator).to(line)
    r = radius[..., None]
    points, normals, widths = [], [], []
    for k in range(STRANDS):
        turn = 2 * math.pi * (run + k / STRANDS)
        depth = (2 * turn).sin()[..., None]
        middle = line + 0.62 * r * turn.sin()[..., None] * side + 0.34 * r * depth * out
        across, over = frames(middle, out)
        for j in range(fibres):
            angle = 2 * math.pi * (j + 0.5) / fibres if fibres > 1 else math.pi / 2
            spoke = math.cos(angle) * across + math.sin(angle) * over
            tuft = 1 + 0.10 * torch.randn(N, 1, 1, generator=generator).to(line)
            points.append(middle + (0.50 if fibres > 1 else 0.22) * tuft * r * spoke)
            lean = turn.cos()[..., None] * side  # a flat strand is round across
            normals.append(F.normalize(spoke if fibres > 1 else out + 0.5 * lean + 0.3 * depth * out, dim=-1))
            share = 2 * math.pi * 0.5 / fibres * 1.5 if fibres > 1 else 1.15
            widths.append(share * radius)
    count = len(points)
    return Strands(torch.cat(points), torch.cat(normals), torch.cat(widths), roots.repeat(count))


def tubes(
    line: Tensor,  # [N, M, 3] m
    away: Tensor,  # [N, M, 3]
    radius: Tensor,  # [N, M] m
    roots: Tensor,  # [N]
    sides: int,
    generator: torch.Generator,
    twist: float = 0.0,  # turns of the fibres from end to end
) -> Strands:
    """Fibres side by side around each guide: a loc or a gathered tress."""
    N, M = line.shape[:2]
    side, out = frames(line, away)
    knots = 1 + 0.16 * _wander(N, M, M // 3, generator).to(line)
    along = torch.linspace(0, 2 * math.pi * twist, M, device=line.device)
    phase = 2 * math.pi * torch.rand(N, 1, generator=generator).to(line) + along
    points, normals, widths = [], [], []
    for j in range(sides):
        angle = (phase + 2 * math.pi * j / sides)[..., None]
        spoke = angle.cos() * side + angle.sin() * out
        points.append(line + (radius * knots)[..., None] * spoke)
        normals.append(spoke)
        widths.append(2 * math.pi / sides * 1.35 * radius * knots)
    return Strands(torch.cat(points), torch.cat(normals), torch.cat(widths), roots.repeat(sides))


def _wander(N: int, M: int, cells: int, generator: torch.Generator) -> Tensor:
    """[N, M] about N(0, 1), smooth over M / cells nodes."""
    grid = torch.randn(N, 1, max(2, cells), generator=generator)
    return F.interpolate(grid, size=M, mode="linear", align_corners=True)[:, 0]


def locs(grown: Strands, radius: float, generator: torch.Generator, nodes: int = 34) -> Strands:
    """Every grown strand as a felted rope with a blunt end; radius m."""
    line, away, alive = resampled(grown, nodes)
    line = (
        line
        + 0.0022
        * torch.stack([_wander(len(line), nodes, nodes // 4, generator).to(line) for _ in range(3)], -1)
        * torch.linspace(0, 1, nodes, device=line.device)[None, :, None].sqrt()
    )
    t = torch.linspace(0, 1, nodes, device=line.device)
    blunt = (0.75 + 0.25 * (t * 6).clamp(0, 1)) * ((1 - t) * 14).clamp(0, 1).sqrt()
    own = 1 + 0.22 * torch.randn(len(line), 1, generator=generator).to(line).clamp(-1.6, 1.6)
    return tubes(line, away, radius * own * blunt * alive[:, None], grown.roots, 4, generator, 1.5)


def thin_braids(grown: Strands, radius: float, generator: torch.Generator, nodes: int = 76) -> Strands:
    """Every grown strand as a thin plait; radius m."""
    line, away, alive = resampled(grown, nodes)
    t = torch.linspace(0, 1, nodes, device=line.device)
    size = radius * (1 - 0.3 * t) * ((1 - t) * 30).clamp(0, 1).sqrt()
    return plaited(line, away, size * alive[:, None], 4.2 * radius, grown.roots, 1, generator)


def hanging(
    start: Tensor,  # [N, 3] m
    heading: Tensor,  # [N, 3] unit
    length: float,
    clearance: float,  # m from the body
    anchors: Anchors,
    nodes: int,
) -> tuple[Tensor, Tensor]:
    """Guides [N, nodes, 3] that fall from `start` and lie against the body, and their outward directions."""
    p, d, step = start, heading, length / (nodes - 1)
    tree, down = anchors.tree, torch.tensor([0.0, -1.0, 0.0])
    points, normals = [p], [F.normalize(heading + 1e-3, dim=-1)]
    for _ in range(nodes - 1):
        d = F.normalize(d + 0.35 * down, dim=-1)
        q = p + step * d
        near = nearest_of(tree, q)
        n = anchors.normals[near]
        height = ((q - anchors.points[near]) * n).sum(-1)
        q = q + (clearance - height).clamp(0, 0.02)[:, None] * n
        d, p = F.normalize(q - p, dim=-1), q
        points.append(q)
        normals.append(n)
    line = torch.stack(points, 1)
    for _ in range(4):
        line[:, 1:-1] = 0.5 * line[:, 1:-1] + 0.25 * (line[:, 2:] + line[:, :-2])
    normal = torch.stack([normals[1], *normals[1:]], 1)
    for _ in range(6):
        normal[:, 1:-1] = 0.5 * normal[:, 1:-1] + 0.25 * (normal[:, 2:] + normal[:, :-2])
    return line, F.normalize(normal, dim=-1)


def plait(
    start: Tensor,  # [N, 3] m
    heading: Tensor,  # [N, 3]
    roots: Tensor,  # [N]
    length: float,
    radius: float,
    anchors: Anchors,
    generator: torch.Generator,
    nodes: int = 72,
) -> tuple[Strands, Strands]:
    """Hanging plaits, and the loose tuft under each one's tie."""
    line, away = hanging(start, heading, length, 0.9 * radius, anchors, nodes)
    end = int(0.88 * nodes)
    t = torch.linspace(0, 1, end)
    size = radius * (1.0 - 0.38 * t) * (0.8 + 0.2 * (t * 8).clamp(0, 1)) * (1 - 0.35 * (t > 0.985))
    woven = plaited(
        line[:, :end], away[:, :end], size.expand(len(line), end), 3.6 * radius, roots, 14, generator
    )
    rest = line[:, end - 2 :]
    s = torch.linspace(0, 1, rest.shape[1])
    swell = radius * (0.30 + 0.35 * (math.pi * s * 0.9).sin()) * (1 - s**6)
    inner = [
        tubes(rest, away[:, end - 2 :], f * swell.expand(len(line), -1), roots, 9, generator)
        for f in (1.0, 0.5)
    ]
    tuft = Strands(
        *(torch.cat([getattr(i, n) for i in inner]) for n in ("points", "normals", "width", "roots"))
    )
    return woven, tuft


ROW_CENTRE, ROW_AXIS = (0.0, 0.030, -0.020), (0.0, 0.50, 0.866)  # rows run from brow to nape like meridians


def row_angle(points: Tensor) -> Tensor:
    """[...] rad about the axis of the rows, on the template: 0 over the crown, > 0 on the subject's left."""
    up = _row_frame(points)[1]
    p = points - points.new_tensor(ROW_CENTRE)
    return torch.atan2(p[..., 0], (p * up).sum(-1))


def _row_frame(points: Tensor) -> tuple[Tensor, Tensor]:
    axis = points.new_tensor(ROW_AXIS)
    return axis, F.normalize(points.new_tensor([0.0, 1.0, 0.0]) - axis[1] * axis, dim=0)


def rows(
    template: Tensor,  # [P, 3] m of the scalp
    angles: Tensor,  # [R] rad
    nodes: int,
) -> Tensor:
    """[R, nodes, P] weights of sum 1: lines over the scalp from brow to nape, as mixtures of its points."""
    axis, up = _row_frame(template)
    along = torch.linspace(0.10, 0.965, nodes) * math.pi  # from the axis' front end to its back end
    spoke = angles.cos()[:, None] * up + angles.sin()[:, None] * template.new_tensor([1.0, 0.0, 0.0])
    ray = along.cos()[None, :, None] * axis + along.sin()[None, :, None] * spoke[:, None]
    p = F.normalize(template - template.new_tensor(ROW_CENTRE), dim=1)
    return torch.softmax(ray @ p.T * 900, dim=-1)
