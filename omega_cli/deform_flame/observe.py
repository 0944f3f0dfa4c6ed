"""What the views say about the mesh as it stands: visible points with target normals, outlines with goals.

Visibility and correspondences are fixed here, for one step; `objective` differentiates with them fixed.
All views are read at once. A GPU waits for the CPU twice: where the visible pixels, and where the faces
that a contour crosses, are counted.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.deform_flame.linear import Surface
from omega_cli.deform_flame.semantics import Semantics
from omega_cli.deform_flame.views import Views
from omega_cli.geometry.mesh import vertex_normals
from omega_cli.geometry.raster import Fragments

# An outline may also lie inside the mesh (a fit that is too wide): so far may it push inwards, metres.
INWARD_REACH = 0.03
# Distance in pixels of the compared map within which a contour counts as the picture's outline.
OUTLINE_PX = 1.6
SOLID = 0.99  # coverage of a pixel whose normal is not a mixture with the background
LEAST_WEIGHT = 1e-3  # of a vertex: less counts as none


@dataclass(frozen=True)
class Observation:
    """All views at one state of the mesh.

    base [V, 3] m: the offsets at which it was made; along [V, 3]: unit normals of the canonical mesh there.
    surface: P visible points; normal [P, 3] their targets; weight [P] semantic weight, summing to 1.
    outline: M points of the mesh's contours; direction [M, 3] unit, outward in the image plane; goal [M] m:
    the value of direction . x at which the point lies on the mask's outline; outline_weight [M], summing to
    1. Points that say nothing have weight 0.
    """

    base: Tensor
    along: Tensor
    surface: Surface
    normal: Tensor
    weight: Tensor
    outline: Surface
    direction: Tensor
    goal: Tensor
    outline_weight: Tensor


def observe(
    canonical: Tensor, offsets: Tensor, posed: Tensor, faces: Tensor, views: Views, semantics: Semantics
) -> Observation:
    """Look at the posed mesh [V, 3] m, which is canonical + offsets skinned, through all views."""
    normals = vertex_normals(posed, faces)
    fragments = views.rasterize(posed, faces)
    surface, target, weight = _visible(fragments, posed, normals, faces, views, semantics)
    view, outline, length = contour(posed, normals, faces, views, semantics.outlined)
    left = semantics.reach - offsets.norm(dim=1)
    direction, goal, share = _outline_goals(
        view, outline, fragments.mask, torch.cat([posed, normals], 1), left, views, semantics
    )
    return Observation(
        base=offsets,
        along=vertex_normals(canonical + offsets, faces),
        surface=surface,
        normal=target,
        weight=_shares(weight),
        outline=outline,
        direction=direction,
        goal=goal,
        outline_weight=_shares(share * length),
    )


def _visible(
    fragments: Fragments, posed: Tensor, normals: Tensor, faces: Tensor, views: Views, semantics: Semantics
) -> tuple[Surface, Tensor, Tensor]:
    """The pixels that mesh and map share: points, target normals [P, 3], weights [P]."""
    seen = semantics.mapped[fragments.face_index] & (views.mask > SOLID)
    pixel = torch.nonzero(seen.view(-1)).squeeze(1)
    face_index = fragments.face_index.view(-1).index_select(0, pixel)
    barycentric = fragments.barycentric.view(-1, 3).index_select(0, pixel)
    surface = Surface(faces.index_select(0, face_index), barycentric, face_index)
    at = surface(torch.cat([posed, normals, semantics.normal[:, None]], 1))
    # the inside of the neck may show below its rim; maps never mean that side
    view = pixel // (views.size * views.size)
    facing = (at[:, 3:6] * views.towards(view, at[:, :3])).sum(1)
    keep = (at[:, 6] > LEAST_WEIGHT) & (facing > 0)
    return surface, views.normal.index_select(0, pixel), at[:, 6] * keep


def contour(
    posed: Tensor, normals: Tensor, faces: Tensor, views: Views, among: Tensor
) -> tuple[Tensor, Surface, Tensor]:  # [M], M points, [M] m
    """Middle points of the smooth contour n . v = 0 in every face it crosses `among` [F] bool, in each view.

    Returns the points' views, the points and the contour's lengths there. Sub-pixel and independent of
    the tessellation, unlike the pixels of a rasterised outline.
    """
    facing = (normals * views.towards_all(posed)).sum(-1)  # [B, V]
    positive = (facing > 0)[:, faces]  # [B, F, 3]
    count = positive.sum(-1)
    view, crossed = torch.nonzero((count > 0) & (count < 3) & among).unbind(1)
    corners = faces.index_select(0, crossed)
    f = facing[view[:, None], corners]
    # the corner that lies alone on its side of the contour comes first
    lone = ((f > 0) == (count[view, crossed] == 1)[:, None]).int().argmax(1)
    order = (lone[:, None] + torch.arange(3, device=faces.device)) % 3
    f = f.gather(1, order)
    t = f[:, :1] / (f[:, :1] - f[:, 1:])  # [M, 2] where the contour cuts the two edges of the lone corner
    rotated = torch.cat([1 - t.mean(1, keepdim=True), t / 2], dim=1)
    barycentric = torch.empty_like(rotated).scatter_(1, order, rotated)
    p = posed[corners.gather(1, order)]
    ends = t[..., None] * (p[:, 1:] - p[:, :1])
    return view, Surface(corners, barycentric, crossed), (ends[:, 0] - ends[:, 1]).norm(dim=1)


def _outline_goals(
    view: Tensor,  # [M]
    outline: Surface,
    covered: Tensor,  # [B, H, W] bool, the mesh's own pictures
    placed: Tensor,  # [V, 6] posed vertices, m, and their normals
    left: Tensor,  # [V] m that each vertex may still move
    views: Views,
    semantics: Semantics,
) -> tuple[Tensor, Tensor, Tensor]:
    """For each contour point its direction [M, 3], goal [M] m, and weight [M]: 0 off the picture's outline,
    and where no goal is found."""
    at = outline(torch.cat([placed, left[:, None], semantics.outline[:, None]], 1))
    points, normal, weight = at[:, :3], at[:, 3:6], at[:, 7]
    pixels = views.project(view, points)
    towards = views.towards(view, points)
    direction = F.normalize(normal - (normal * towards).sum(1, keepdim=True) * towards, dim=1)
    step = views.across(view, direction)
    on_outline = sample(_edge_band(covered), view, pixels) > 0.5
    inward, outward = int(INWARD_REACH * views.finest) + 1, int(semantics.farthest * views.finest) + 2
    distance, found = march(views.mask, view, pixels, step, inward, outward)
    # a goal beyond the reach is a wish that the surface cannot grant: the point goes as far as it may
    distance = torch.minimum(distance / views.scale(view, points), at[:, 6].clamp_min(0.0))
    keep = on_outline & found & (weight > LEAST_WEIGHT)
    return direction, (points * direction).sum(1) + distance, weight * keep


def march(
    masks: Tensor,  # [B, H, H] coverage
    view: Tensor,  # [M]
    pixels: Tensor,  # [M, 2]
    step: Tensor,  # [M, 2] unit, outward
    inward: int,
    outward: int,
) -> tuple[Tensor, Tensor]:
    """Signed distance [M] px along `step` to the mask's edge (coverage 1/2, sub-pixel), and found [M] bool.

    From inside the mask outward to the first exit; from outside inward to the first entry; at most so
    many pixels either way. A march that leaves the picture, or meets no edge, finds nothing.
    """
    t = torch.arange(-inward, outward + 1, device=masks.device, dtype=masks.dtype)
    inside = sample(masks, view, torch.addcmul(pixels[:, None], t[:, None], step[:, None]))  # [M, T]
    before, after = inside[:, :-1], inside[:, 1:]
    falling = (before >= 0.5) & (after <= 0.5) & (before > after)  # inside to outside along the step
    last = len(t) - 1
    idx = torch.arange(last, device=masks.device)
    # the interval that starts at t = 0 is number `inward`
    ahead = torch.where(falling & (idx >= inward), idx, last + 1).amin(1)
    behind = torch.where(falling & (idx < inward), idx, -1).amax(1)
    pick = torch.where(inside[:, inward] > 0.5, ahead, behind)
    found = (pick >= 0) & (pick < last)
    pick = pick.clamp(0, last - 1)
    interval = torch.stack([pick, pick + 1], 1)
    a, b = inside.gather(1, interval).unbind(1)
    where = (pick - inward) + (a - 0.5) / (a - b).clamp_min(1e-6)
    ends = pixels[:, None] + (interval - inward)[..., None] * step[:, None]
    framed = ((ends >= 1) & (ends <= masks.shape[-1] - 1)).flatten(1).all(1)
    return where, found & framed


def sample(images: Tensor, view: Tensor, pixels: Tensor) -> Tensor:
    """Bilinear values [M, ...] of images [B, H, H] at pixel positions [M, ..., 2] (centres at +0.5) in
    the images `view` [M]; the border repeats."""
    # the views are the slices of one volume, so that one call reads them all
    depth = view * (2 / len(images)) + (1 / len(images) - 1)
    depth = depth.view(-1, *[1] * (pixels.ndim - 1)).expand_as(pixels[..., :1])
    grid = torch.cat([pixels * (2 / images.shape[-1]) - 1, depth], -1).view(1, 1, 1, -1, 3)
    out = F.grid_sample(images[None, None], grid, align_corners=False, padding_mode="border")
    return out.view(pixels.shape[:-1])


def _edge_band(covered: Tensor) -> Tensor:
    """1 within OUTLINE_PX of the boundaries of pictures [B, H, W] bool."""
    side = 2 * int(OUTLINE_PX + 0.5) + 1
    count = F.pad(covered.to(torch.uint8), [side // 2] * 4)
    # sums of shifted pictures: avg_pool2d takes ten times as long on a CPU
    for dim in (1, 2):
        length = count.shape[dim] - side + 1
        count = functools.reduce(torch.add, (count.narrow(dim, k, length) for k in range(side)))
    return ((count > 0) & (count < side * side)).float()


def _shares(weight: Tensor) -> Tensor:
    return weight / weight.sum().clamp_min(1e-12)
