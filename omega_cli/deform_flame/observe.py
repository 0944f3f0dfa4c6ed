"""What the views say about the mesh as it stands: visible points with target normals, outlines with goals.

Visibility and correspondences are fixed here, for one step; `objective` differentiates with them fixed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.deform_flame.semantics import Semantics
from omega_cli.geometry.camera import Camera
from omega_cli.geometry.mesh import vertex_normals
from omega_cli.geometry.raster import rasterize

# An outline may also lie inside the mesh (a fit that is too wide): so far may it push inwards, metres.
INWARD_REACH = 0.03
# Distance in pixels of the compared map within which a contour counts as the picture's outline.
OUTLINE_PX = 1.6


@dataclass(frozen=True)
class View:
    """One canonical view at the compared size: camera; normal [3, H, W] unit, world; mask [1, H, W]."""

    camera: Camera
    normal: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Surface:
    """P points on faces: corners [P, 3] long, barycentric [P, 3], face_index [P] long."""

    corners: Tensor
    barycentric: Tensor
    face_index: Tensor

    def __call__(self, values: Tensor) -> Tensor:  # [V, C] -> [P, C]
        """Vertex values at the points; differentiable."""
        return F.embedding_bag(self.corners, values, per_sample_weights=self.barycentric, mode="sum")


@dataclass(frozen=True)
class Observation:
    """All views at one state of the mesh.

    base [V, 3] m: the offsets at which it was made; along [V, 3]: unit normals of the canonical mesh there.
    surface: P visible points; normal [P, 3] their targets; weight [P] semantic weight, summing to 1.
    outline: M points of the mesh's outlines; direction [M, 3] unit, outward in the image plane; goal [M] m:
    the value of direction . x at which the point lies on the mask's outline; outline_weight [M].
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


def prepare_view(camera: Camera, normal: Tensor, mask: Tensor, size: int) -> View:
    """Area-average a view [3, H, W], [1, H, W] to `size`; background does not bleed into the normals."""
    side = (size, size)
    shrunk = F.adaptive_avg_pool2d((normal * mask)[None], side)[0]
    coverage = F.adaptive_avg_pool2d(mask[None], side)[0]
    return View(camera.resized(size, size), F.normalize(shrunk, dim=0, eps=1e-6), coverage)


def observe(
    canonical: Tensor, offsets: Tensor, posed: Tensor, faces: Tensor, views: list[View], semantics: Semantics
) -> Observation:
    """Look at the posed mesh [V, 3] m, which is canonical + offsets skinned, through all views."""
    moved = offsets.norm(dim=1)
    normals = vertex_normals(posed, faces)
    seen = [_observe_view(posed, normals, faces, view, semantics, moved) for view in views]
    weight = torch.cat([piece[2] for piece in seen])
    lengths = torch.cat([piece[6] for piece in seen])
    return Observation(
        base=offsets,
        along=vertex_normals(canonical + offsets, faces),
        surface=_concatenate([piece[0] for piece in seen]),
        normal=torch.cat([piece[1] for piece in seen]),
        weight=weight / weight.sum().clamp_min(1e-12),
        outline=_concatenate([piece[3] for piece in seen]),
        direction=torch.cat([piece[4] for piece in seen]),
        goal=torch.cat([piece[5] for piece in seen]),
        outline_weight=lengths / lengths.sum().clamp_min(1e-12),
    )


def _observe_view(
    posed: Tensor, normals: Tensor, faces: Tensor, view: View, semantics: Semantics, moved: Tensor
) -> tuple[Surface, Tensor, Tensor, Surface, Tensor, Tensor, Tensor]:
    fragments = rasterize(posed, faces, view.camera)
    covered = fragments.face_index >= 0
    both = covered & (view.mask[0] > 0.99)
    face_index = fragments.face_index[both]
    surface = Surface(faces[face_index], fragments.barycentric[both], face_index)
    weight = surface(semantics.normal[:, None])[:, 0]
    # the inside of the neck may show below its rim; maps never mean that side
    facing = (surface(normals) * view.camera.view_directions(surface(posed))).sum(1)
    keep = (weight > 1e-3) & (facing > 0)
    surface = Surface(surface.corners[keep], surface.barycentric[keep], face_index[keep])
    target = view.normal.permute(1, 2, 0)[both][keep]
    outline, length = contour(posed, normals, faces, view.camera)
    sample = _outline_goals(outline, length, covered, posed, normals, view, semantics, moved)
    return surface, target, weight[keep], *sample


def contour(posed: Tensor, normals: Tensor, faces: Tensor, camera: Camera) -> tuple[Surface, Tensor]:
    """Middle points of the smooth contour n . v = 0 in every face it crosses, and its lengths [M] m there.

    Sub-pixel and independent of the tessellation, unlike the pixels of a rasterised outline.
    """
    facing = (normals * camera.view_directions(posed)).sum(1)
    sign = facing[faces] > 0
    crossed = torch.nonzero(sign.any(1) & ~sign.all(1)).squeeze(1)
    corners, f = faces[crossed], facing[faces[crossed]]
    positive = sign[crossed]
    lone = torch.where((positive.sum(1) == 1)[:, None], positive, ~positive).int().argmax(1)
    order = (lone[:, None] + torch.arange(3, device=faces.device)) % 3  # the lone corner first
    f = f.gather(1, order)
    t = f[:, :1] / (f[:, :1] - f[:, 1:])  # [M, 2] where the contour cuts the two edges of the lone corner
    rotated = torch.stack([1 - t.mean(1), t[:, 0] / 2, t[:, 1] / 2], dim=1)
    barycentric = torch.zeros_like(rotated).scatter(1, order, rotated)
    p = posed[corners.gather(1, order)]
    ends = p[:, :1] + t[..., None] * (p[:, 1:] - p[:, :1])
    return Surface(corners, barycentric, crossed), (ends[:, 0] - ends[:, 1]).norm(dim=1)


def _outline_goals(
    outline: Surface,
    length: Tensor,
    covered: Tensor,  # [H, W] bool, the mesh's own picture
    posed: Tensor,
    normals: Tensor,
    view: View,
    semantics: Semantics,
    moved: Tensor,
) -> tuple[Surface, Tensor, Tensor, Tensor]:
    """Contour points on the picture's outline, each with where the mask's outline wants it."""
    camera = view.camera
    points = outline(posed)
    pixels, _ = camera.project(points)
    towards = camera.view_directions(points)
    direction = outline(normals)
    direction = F.normalize(direction - (direction * towards).sum(1, keepdim=True) * towards, dim=1)
    px_per_m = float(camera.K[0, 0])
    step = direction @ camera.viewmat[:2, :3].to(direction).T
    weight = outline(semantics.outline[:, None])[:, 0]
    left = (outline(semantics.reach[:, None]) - outline(moved[:, None]))[:, 0]
    on_outline = _sample(_edge_band(covered), pixels) > 0.5
    distance, found = march(view.mask, pixels, step, px_per_m * float(semantics.reach.max()), px_per_m)
    keep = on_outline & found & (weight > 1e-3)
    # a goal beyond the reach is a wish that the surface cannot grant: the point goes as far as it may
    distance = torch.minimum(distance, left.clamp_min(0.0))
    goal = (points * direction).sum(1) + distance
    kept = Surface(outline.corners[keep], outline.barycentric[keep], outline.face_index[keep])
    return kept, direction[keep], goal[keep], (weight * length)[keep]


def march(
    mask: Tensor,  # [1, H, W] coverage
    pixels: Tensor,  # [M, 2]
    step: Tensor,  # [M, 2] unit, outward
    reach_px: float,
    px_per_m: float,
) -> tuple[Tensor, Tensor]:
    """Signed distance [M] m along `step` to the mask's edge (coverage 1/2, sub-pixel), and found [M] bool.

    From inside the mask outward to the first exit; from outside inward to the first entry, at most
    INWARD_REACH. A march that leaves the picture, or meets no edge, finds nothing.
    """
    inward, outward = int(INWARD_REACH * px_per_m) + 1, int(reach_px) + 2
    t = torch.arange(-inward, outward + 1, device=mask.device, dtype=mask.dtype)
    inside = _sample(mask[0], pixels[:, None] + t[:, None] * step[:, None])  # [M, T]
    xy = pixels[:, None] + t[:, None] * step[:, None]
    height, width = mask.shape[-2:]
    framed = (xy >= 1).all(-1) & (xy[..., 0] <= width - 1) & (xy[..., 1] <= height - 1)
    crossing = (inside[:, :-1] - 0.5) * (inside[:, 1:] - 0.5) <= 0
    falling = crossing & (inside[:, :-1] > inside[:, 1:])  # inside to outside along the step
    idx = torch.arange(len(t) - 1, device=mask.device)
    at_start = inside[:, inward] > 0.5
    # the interval that starts at t = 0 is number `inward`
    ahead = torch.where(falling & (idx >= inward), idx, len(t)).min(1).values
    behind = torch.where(falling & (idx < inward), idx, -1).max(1).values
    pick = torch.where(at_start, ahead, behind)
    found = (pick >= 0) & (pick < len(t) - 1)
    pick = pick.clamp(0, len(t) - 2)
    a, b = inside.gather(1, pick[:, None])[:, 0], inside.gather(1, pick[:, None] + 1)[:, 0]
    where = t[pick] + (a - 0.5) / (a - b).clamp_min(1e-6)
    found &= framed.gather(1, pick[:, None])[:, 0] & framed.gather(1, pick[:, None] + 1)[:, 0]
    return where / px_per_m, found


def _sample(image: Tensor, pixels: Tensor) -> Tensor:
    """Bilinear values of [H, W] at pixel positions [..., 2] (centres at +0.5); the border repeats."""
    height, width = image.shape
    grid = pixels / pixels.new_tensor([width, height]) * 2 - 1
    flat = grid.reshape(1, 1, -1, 2)
    out = F.grid_sample(image[None, None], flat, align_corners=False, padding_mode="border")
    return out.reshape(pixels.shape[:-1])


def _edge_band(covered: Tensor) -> Tensor:
    """1 within OUTLINE_PX of the boundary of a picture [H, W] bool."""
    side = 2 * int(OUTLINE_PX + 0.5) + 1
    share = F.avg_pool2d(covered[None, None].float(), side, 1, side // 2, count_include_pad=True)[0, 0]
    return ((share > 0) & (share < 1)).float()


def _concatenate(parts: list[Surface]) -> Surface:
    return Surface(
        torch.cat([p.corners for p in parts]),
        torch.cat([p.barycentric for p in parts]),
        torch.cat([p.face_index for p in parts]),
    )
