"""Hair grown from the skin: strands follow a combing field, gravity and the head, and become ribbons."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.spatial import KDTree
from torch import Tensor

from omega_cli.data.studio.noise import smoothstep
from omega_cli.data.studio.styles import Style

DOWN = (0.0, -1.0, 0.0)


@dataclass(frozen=True)
class Anchors:
    """Places of one identity's canonical head, m: the eyes' height, the outer eye corner's |x|, and the
    surface that hair lies on: points and outward normals [P, 3]; scalp [P] is 1 on the scalp."""

    eye_y: float
    eye_x: float
    points: Tensor
    normals: Tensor
    scalp: Tensor

    @functools.cached_property
    def tree(self) -> KDTree:
        """Of `points`."""
        return KDTree(self.points.cpu().numpy())


@dataclass(frozen=True)
class Strands:
    """points [N, S + 1, 3] m; normals [N, S + 1, 3]: away from the head; width [N, S + 1] m (0 past the
    end); roots [N] long: the mesh vertex that each strand is fixed to."""

    points: Tensor
    normals: Tensor
    width: Tensor
    roots: Tensor

    def __len__(self) -> int:
        return len(self.points)


def sample_roots(
    vertices: Tensor,  # [V, 3]
    normals: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
    density: Tensor,  # [F] wanted strands per area, relative
    count: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Random surface points: positions [N, 3], normals [N, 3], nearest vertex [N]."""
    a, b, c = vertices[faces].unbind(1)
    area = torch.linalg.cross(b - a, c - a).norm(dim=-1)
    weight = (area * density).cpu()
    face = torch.multinomial(weight, count, replacement=True, generator=generator).to(vertices.device)
    r = torch.rand(count, 2, generator=generator).to(vertices)
    root = r[:, :1].sqrt()
    bary = torch.cat([1 - root, root * (1 - r[:, 1:]), root * r[:, 1:]], 1)
    corners = faces[face]
    position = (vertices[corners] * bary[..., None]).sum(1)
    normal = F.normalize((normals[corners] * bary[..., None]).sum(1), dim=-1)
    return position, normal, corners.gather(1, bary.argmax(1, keepdim=True))[:, 0]


def _flow(p: Tensor, n: Tensor, style: Style, anchors: Anchors, root_x: Tensor) -> Tensor:
    """[N, 3] the direction that the comb gives at points p with outward normals n."""
    x, y, z = p.unbind(-1)
    zero = torch.zeros_like(x)
    if style.flow == "tie":
        return F.normalize(knot_of(style, anchors, root_x) - p, dim=-1)
    aside = torch.tanh((root_x - style.part) / 0.004)
    top = {
        "back": torch.stack([0.15 * torch.sign(x), zero + 0.1, zero - 1], -1),
        "forward": torch.stack([0.2 * torch.sign(root_x), zero, zero + 1], -1),
        "part": torch.stack([aside, zero, 0.30 - 4.0 * (z - 0.02).clamp_min(0)], -1),
        "crown": torch.stack([x, zero, z + 0.045], -1) / 0.05,
        "up": torch.stack([0.1 * torch.sign(x), zero + 1.2, -0.25 + zero], -1),
        "down": torch.stack([0.15 * torch.sign(x), zero - 1, zero + 0.25], -1),
    }[style.flow]
    down = torch.stack([zero, zero - 1, zero - (0.6 if style.flow == "back" else 0.12)], -1)
    w = smoothstep(n[:, 1], 0.1, 0.55) * smoothstep(y, anchors.eye_y - 0.02, anchors.eye_y + 0.03)
    w = w[:, None] if style.flow != "down" else torch.ones_like(x)[:, None]  # shoulders are not combed
    return F.normalize(w * F.normalize(top, dim=-1) + (1 - w) * down, dim=-1)


def _lengths(p: Tensor, n: Tensor, style: Style, generator: torch.Generator) -> Tensor:
    """[N] m by place: top, sides, back, with soft changes and a spread."""
    up = (
        smoothstep(p[:, 1], style.gap - 0.004, style.gap + 0.004)
        if style.gap
        else smoothstep(n[:, 1], 0.15, 0.6)
    )
    behind = smoothstep(p[:, 2], -0.02, -0.06)
    low = style.side + behind * (style.back - style.side)
    taper = 0.55 + 0.45 * smoothstep(p[:, 1], -0.04, 0.03) if style.cut is None else 1.0
    spread = 1 + style.mess * (2 * torch.rand(len(p), generator=generator).to(p) - 1)
    return (up * style.top + (1 - up) * low * taper) * spread


def grow(
    roots: tuple[Tensor, Tensor, Tensor],  # positions, normals, vertices of N roots
    style: Style,
    anchors: Anchors,
    generator: torch.Generator,
) -> Strands:
    """March every strand out of its root; all strands at once, `style.segments` steps."""
    p, n, vertex = roots
    N, S = len(p), style.segments

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(p)

    length = _lengths(p, n, style, generator)
    if style.cut is not None:  # no longer than the way to the cut
        length = torch.minimum(length, (p[:, 1] - (anchors.eye_y - style.cut)).clamp_min(0.02) * 1.1 + 0.09)
    steps = torch.linspace(0.4, 1.6, S, device=p.device)  # short where it leaves the skin
    steps = length[:, None] * steps / steps.sum()
    layer = torch.rand(N, generator=generator).to(p)  # 0 under, 1 over
    hover = 0.002 + style.volume * layer * smoothstep(p[:, 1], anchors.eye_y - 0.07, anchors.eye_y + 0.05)
    root_x = p[:, 0] + 0.002 * random(N)
    drift = random(N, 3) * style.noise
    flow = _tangent(_flow(p, n, style, anchors, root_x), n)
    d = F.normalize((1 - style.lift) * flow + style.lift * n + 0.5 * drift, dim=-1)
    down = torch.tensor(DOWN, device=p.device)
    alive = torch.ones(N, dtype=torch.bool, device=p.device)
    tied = torch.zeros_like(alive)
    lying = torch.zeros(N, dtype=torch.long, device=p.device)
    tree = anchors.tree
    near = nearest_of(tree, p)
    knot = knot_of(style, anchors, root_x)
    points, normals, living = [p], [n], [alive]
    for k in range(S):
        comb = _tangent(_flow(p, n, style, anchors, root_x), n)
        tied = tied | ((style.flow == "tie") & ((p - knot).norm(dim=-1) < style.gather))
        alive = alive & ~(tied & (style.tail in ("bun", "plait")))
        free = tied[:, None].float()
        ramp = min(1.0, (k + 1) / (0.35 * S + 1e-6)) if style.lift > 0.5 else 1.0
        combed = (anchors.scalp[near] if style.cut is not None else 1.0 - 0 * hover)[:, None]  # it hangs else
        pull = (style.comb * ramp * (1 - free) * combed) * comb + (style.gravity * ramp + 0.6 * free) * down
        d = F.normalize(
            d + pull + (0.4 * drift + 0.3 * style.noise * random(N, 3)) * (1 - 0.5 * free), dim=-1
        )
        d = F.normalize(d + _off_the_face(p, style, anchors), dim=-1)
        q = p + d * steps[:, k : k + 1]
        near = nearest_of(tree, q)
        n_q = anchors.normals[near]
        height = ((q - anchors.points[near]) * n_q).sum(-1)
        reach = (hover * min(1.0, (k + 1) / (0.3 * S + 1e-6))).clamp_min(0.0015)
        q = q + ((reach - height).clamp(0, 0.03))[:, None] * n_q  # out of the head
        cling = torch.maximum(anchors.scalp[near], 0.5 * (q[:, 1] > anchors.eye_y - 0.08))
        sink = (height - hover).clamp(0, 0.012) * cling * (style.lift < 0.9) * (k > 0.15 * S)
        q = q - 0.7 * sink[:, None] * n_q * (1 - free)
        d = F.normalize(q - p, dim=-1)
        lying = lying + ((height < hover + 0.004) & (n_q[:, 1] > 0.3) & (q[:, 1] < anchors.eye_y - 0.08))
        alive = alive & (lying < 3) & ~_forbidden(q, style, anchors)  # it lies on the shoulder and ends
        p = torch.where(alive[:, None], q, p)
        n = F.normalize(torch.where(alive[:, None], 0.5 * n + n_q, n), dim=-1)
        points.append(p)
        normals.append(n)
        living.append(alive)
    line, normal = torch.stack(points, 1), torch.stack(normals, 1)
    alive_all = torch.stack(living, 1)
    line, lock = _clumped(line, style, generator)
    if style.curl:
        return _curled(line, normal, alive_all, lock, vertex, style, generator)
    return Strands(line, normal, _widths(alive_all, style, generator), vertex)


def nearest_of(tree: KDTree, points: Tensor) -> Tensor:
    """[N] long: the tree's point nearest to each of `points` [N, 3]."""
    return torch.from_numpy(tree.query(points.cpu().numpy())[1]).to(points.device)


def knot_of(style: Style, anchors: Anchors, root_x: Tensor) -> Tensor:
    """[N, 3] where strands that grow at x = root_x [N] are tied; two knots have one side each."""
    aside = style.knot_aside * torch.where(root_x > style.part, 1.0, -1.0)
    height = torch.full_like(root_x, anchors.eye_y + style.knot[0])
    return torch.stack([aside, height, torch.full_like(root_x, style.knot[1])], -1)


def _tangent(d: Tensor, n: Tensor) -> Tensor:
    return F.normalize(d - (d * n).sum(-1, keepdim=True) * n, dim=-1)


def _off_the_face(p: Tensor, style: Style, anchors: Anchors) -> Tensor:
    """[N, 3] a push to the side and back for hair that would hang into the face."""
    if style.flow == "down":
        return torch.zeros_like(p)
    x, y, z = p.unbind(-1)
    limit = anchors.eye_y + (style.fringe if style.fringe is not None else 0.06) + 0.025
    near = smoothstep(z, 0.02, 0.05) * smoothstep(y, limit, limit - 0.03) * smoothstep(x.abs(), 0.085, 0.06)
    return near[:, None] * torch.stack(
        [0.45 * torch.sign(x), torch.zeros_like(x), torch.full_like(x, -0.8)], -1
    )


def _forbidden(p: Tensor, style: Style, anchors: Anchors) -> Tensor:
    """[N] bool: here a strand ends: on the face under the fringe, or under the level cut."""
    x, y, z = p.unbind(-1)
    ends = torch.zeros_like(x, dtype=torch.bool)
    if style.flow != "down":
        limit = anchors.eye_y + (style.fringe if style.fringe is not None else 0.05)
        wave = 0.003 * torch.sin(x * 300)
        half = anchors.eye_x + 0.010 + 0.25 * (limit - y).clamp(0, 0.04)
        ends = (z > 0.028) & (x.abs() < half) & (y < limit + wave) & (y > anchors.eye_y - 0.14)
    if style.cut is not None:
        ends = ends | (y < anchors.eye_y - style.cut + 0.006 * torch.sin(x * 170 + z * 230))
    return ends


def _clumped(line: Tensor, style: Style, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Neighbours gather towards the leader of their lock, more so at the tips, in curls from the root on;
    and [N] the leader of each one's lock."""
    N, nodes = line.shape[:2]
    leaders = torch.randperm(N, generator=generator)[: max(8, N // style.lock)].to(line.device)
    lock = leaders[nearest_of(KDTree(line[leaders, 0].cpu().numpy()), line[:, 0])]
    rise = torch.linspace(0, 1, nodes, device=line.device) ** (0.6 if style.curl else 1.5)
    target = line[lock] + (0.15 if style.curl else 0.35) * (line[:, :1] - line[lock, :1])
    apart = (target - line).norm(dim=-1).amax(1)  # across a parting there is nothing to share
    share = style.clump * rise[None, :, None] * torch.exp(-((apart / 0.03) ** 2))[:, None, None]
    return line + share * (target - line), lock


def resampled(strands: Strands, nodes: int) -> tuple[Tensor, Tensor, Tensor]:
    """The living part of every strand at `nodes` places: points, unit normals [N, nodes, 3]; and [N] bool: it
    has one worth drawing."""
    return _resampled(strands.points, strands.normals, strands.width > 0, nodes)


def _resampled(line: Tensor, normal: Tensor, alive: Tensor, nodes: int) -> tuple[Tensor, Tensor, Tensor]:
    last = (alive.sum(1) - 1).clamp_min(1)
    place = torch.linspace(0, 1, nodes, device=line.device) * last[:, None]
    low = place.long().clamp_max(line.shape[1] - 2)
    share = (place - low)[..., None]

    def at(values: Tensor) -> Tensor:
        a, b = (values.gather(1, (low + i)[..., None].expand(-1, -1, 3)) for i in (0, 1))
        return a + share * (b - a)

    return at(line), F.normalize(at(normal), dim=-1), last > 2


CURL_NODES = 8  # a turn: fewer make kinks of a curl
MOST_NODES = 45000  # of all curled strands together: keeps a picture cheap


def _curled(
    line: Tensor,
    normal: Tensor,
    alive: Tensor,
    lock: Tensor,
    roots: Tensor,
    style: Style,
    generator: torch.Generator,
) -> Strands:
    """Strands wound about their own line; those of one lock turn together, so that it is one ringlet."""
    N = len(line)
    length = (line[:, 1:] - line[:, :-1]).norm(dim=-1).sum(1)
    turns_most = float(length.quantile(0.9)) / style.pitch
    nodes = min(max(line.shape[1], int(turns_most * CURL_NODES) + 1), MOST_NODES // N)
    line, normal, long_enough = _resampled(line, normal, alive, nodes)
    tangent = F.normalize(torch.gradient(line, dim=1)[0], dim=-1)
    side = F.normalize(torch.linalg.cross(tangent, normal), dim=-1, eps=1e-6)
    out = torch.linalg.cross(side, tangent)
    phase = 6.283 * torch.rand(N, 1, generator=generator).to(line)[lock]
    phase = phase + style.frizz * torch.randn(N, 1, generator=generator).to(line)
    turns = 1 + 0.2 * torch.randn(N, 1, generator=generator).to(line)[lock]
    hand = torch.where(torch.rand(N, 1, generator=generator).to(line)[lock] > 0.5, 1.0, -1.0)
    s = F.pad((line[:, 1:] - line[:, :-1]).norm(dim=-1).cumsum(1), (1, 0))
    angle = hand * (2 * math.pi * turns * s / style.pitch) + phase
    radius = (style.curl * (s / (1.2 * style.pitch)).clamp(0, 1))[..., None]
    spoke = angle.cos()[..., None] * side + angle.sin()[..., None] * out
    line = line + radius * (spoke + 0.5 * out)
    width = _widths(torch.ones_like(s, dtype=torch.bool), style, generator) * long_enough[:, None]
    return Strands(line, F.normalize(spoke + 0.45 * normal, dim=-1), width, roots)


def _widths(alive: Tensor, style: Style, generator: torch.Generator) -> Tensor:
    """[N, S + 1] m: narrow at the root, full in the middle, ending in a tip where the strand ends."""
    N, nodes = alive.shape
    count = alive.sum(1, keepdim=True).float()  # nodes that live, root included
    k = torch.arange(nodes, device=alive.device)[None]
    left = ((count - 1 - k) / (0.30 * count).clamp_min(1.0)).clamp(0, 1)
    spread = 0.65 + 0.7 * torch.rand(N, 1, generator=generator).to(alive.device)
    return style.width * spread * left.sqrt() * (0.75 + 0.25 * (k / 2.0).clamp(0, 1)) * (count > 2)


def bun(centre: Tensor, radius: float, root: int, generator: torch.Generator, count: int = 260) -> Strands:
    """Strands wound about a ball: a knot of hair at `centre` [3] m, fixed to mesh vertex `root`."""
    nodes = 16
    axis = F.normalize(torch.randn(count, 3, generator=generator) * torch.tensor([0.5, 0.5, 1.2]), dim=-1)
    a = F.normalize(torch.linalg.cross(axis, torch.randn(count, 3, generator=generator)), dim=-1)
    b = torch.linalg.cross(axis, a)
    height = 0.75 * (2 * torch.rand(count, 1, 1, generator=generator) - 1)
    sweep = torch.linspace(0, 3.6, nodes)[None, :, None]
    ring = (1 - height**2).sqrt() * (torch.cos(sweep) * a[:, None] + torch.sin(sweep) * b[:, None])
    normal = (ring + height * axis[:, None]).to(centre)
    wobble = 1 + 0.08 * torch.randn(count, 1, 1, generator=generator).to(centre)
    squash = torch.tensor([1.1, 1.0, 0.85], device=centre.device)
    points = centre + radius * wobble * squash * normal
    width = torch.full((count, nodes), 0.006, device=centre.device)
    width[:, 0] = width[:, -1] = 0.0
    return Strands(points, normal, width, torch.full((count,), root, device=centre.device))


@dataclass(frozen=True)
class Ribbons:
    """A mesh of ribbons: vertices [V, 3] canonical m; normals, tangents [V, 3]; uv [V, 2]: across and
    along the strand, in turns of the detail texture; along [V]: 0 at the root, 1 at the tip; tint [V]: a
    random number per strand in [-1, 1]; roots [V] long: head vertex; faces [F, 3]."""

    vertices: Tensor
    normals: Tensor
    tangents: Tensor
    uv: Tensor
    along: Tensor
    tint: Tensor
    roots: Tensor
    faces: Tensor


def ribbons(strands: Strands, generator: torch.Generator, roll: float = 0.7, round: float = 0.6) -> Ribbons:
    """Two vertices a node; the ribbon is rolled a little about its strand, its normals bent outwards so
    that it is lit like a lock, not like a sheet."""
    line, n, width = strands.points, strands.normals, strands.width
    N, nodes = line.shape[:2]
    ahead = torch.cat([line[:, 1:], line[:, -1:] * 2 - line[:, -2:-1]], 1)
    behind = torch.cat([line[:, :1] * 2 - line[:, 1:2], line[:, :-1]], 1)
    tangent = ahead - behind
    tangent = torch.where(tangent.norm(dim=-1, keepdim=True) > 1e-6, tangent, -n)
    tangent = F.normalize(tangent, dim=-1)
    side = F.normalize(torch.linalg.cross(tangent, n) + 1e-6, dim=-1)
    out = torch.linalg.cross(side, tangent)
    angle = roll * torch.randn(N, 1, 1, generator=generator).to(line).clamp(-1.5, 1.5)
    side, out = (
        torch.cos(angle) * side + torch.sin(angle) * out,
        torch.cos(angle) * out - torch.sin(angle) * side,
    )
    half = 0.5 * width[..., None] * side
    points = torch.stack([line - half, line + half], 2)
    base = F.normalize(0.55 * out + 0.45 * n, dim=-1)
    normals = F.normalize(torch.stack([base - round * side, base + round * side], 2), dim=-1)
    offset = torch.rand(N, 1, generator=generator).to(line)
    s = torch.linspace(0, 1, nodes, device=line.device).expand(N, nodes)
    run = torch.cat([torch.zeros_like(s[:, :1]), (line[:, 1:] - line[:, :-1]).norm(dim=-1).cumsum(1)], 1)
    across = torch.stack([offset.expand(N, nodes), offset + width / 0.034], -1)
    uv = torch.stack([across, (run / 0.16 + 7.3 * offset)[..., None].expand(N, nodes, 2)], -1)
    index = (torch.arange(N)[:, None] * nodes + torch.arange(nodes - 1)).flatten()[:, None] * 2
    quads = torch.cat([index + torch.tensor([0, 1, 2]), index + torch.tensor([1, 3, 2])], 1).view(-1, 3)
    drawn = width[:, :-1] > 0
    faces = quads.to(line.device)[drawn.flatten().repeat_interleave(2)]
    used = torch.nonzero((F.pad(drawn, (0, 1)) | F.pad(drawn, (1, 0))).flatten())[:, 0]  # nodes of a face
    place = torch.zeros(N * nodes, dtype=torch.long, device=line.device)
    place[used] = torch.arange(len(used), device=line.device)

    def both(value: Tensor) -> Tensor:  # [N, nodes, 2, C]
        return value.reshape(N * nodes, 2, -1)[used].flatten(0, 1)

    def twice(value: Tensor) -> Tensor:  # one value a strand or a node, for both edges
        return value.expand(N, nodes).flatten()[used].repeat_interleave(2)

    return Ribbons(
        vertices=both(points),
        normals=both(normals),
        tangents=tangent.reshape(N * nodes, 3)[used].repeat_interleave(2, 0),
        uv=both(uv),
        along=twice(s),
        tint=twice(2 * offset - 1),
        roots=twice(strands.roots[:, None]),
        faces=2 * place[faces // 2] + faces % 2,
    )
