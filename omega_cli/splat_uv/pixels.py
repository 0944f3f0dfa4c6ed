"""What each pixel of a view says about the UV map: where it lands, how it faces us, how far to trust it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.geometry.camera import Camera
from omega_cli.geometry.mesh import vertex_normals
from omega_cli.geometry.raster import interpolate, rasterize

EDGE_PIXELS = 2  # ours: pixels this near the mask's edge may hold background
DEPTH_JUMP = 0.012  # ours, m across 3 pixels: more is an occlusion, where a small misfit shows the wrong side
SKIN_MARGIN = 1  # ours, px: skin this near an eyeball or the mouth's inside may hold its colour
PART_MARGIN = 1  # ours, px: and the other way round; more would cost the lash line and the sclera
LEAST_RELIABILITY = 0.02  # ours: a fainter pixel is background


@dataclass(frozen=True)
class PixelSamples:
    """The P pixels of one view that carry information.

    pixel [P] flat index into H*W; uv [P, 2]; cosine [P] = max(0, n.v) in [0, 1]; reliability [P] in
    (0.02, 1]; face_index [P] and barycentric [P, 3], the surface point seen.
    """

    pixel: Tensor
    uv: Tensor
    cosine: Tensor
    reliability: Tensor
    face_index: Tensor
    barycentric: Tensor

    def points(self, vertices: Tensor, faces: Tensor) -> Tensor:  # [V, 3], [F, 3] -> [P, 3]
        """The seen surface points on any pose of the mesh."""
        return (vertices[faces[self.face_index]] * self.barycentric[..., None]).sum(1)

    def gather(self, image: Tensor) -> Tensor:  # [C, H, W] -> [P, C]
        """The image's values at these pixels; differentiable to the image."""
        return image.flatten(1)[:, self.pixel].T

    def keep(self, reliability: Tensor) -> PixelSamples:
        """The same samples with another reliability [P]; those near 0 are dropped."""
        alive = reliability > LEAST_RELIABILITY
        kept = replace(self, reliability=reliability)
        return PixelSamples(*(getattr(kept, f.name)[alive] for f in fields(PixelSamples)))


def spread_max(image: Tensor, radius: int) -> Tensor:  # [H, W] -> [H, W]
    """Largest value within `radius` pixels (square window)."""
    return F.max_pool2d(image[None, None], 2 * radius + 1, stride=1, padding=radius)[0, 0]


def spread_min(image: Tensor, radius: int) -> Tensor:  # [H, W] -> [H, W]
    return -spread_max(-image, radius)


def depth_edges(depth: Tensor, jump: float = DEPTH_JUMP) -> Tensor:  # [H, W] m, +inf empty -> [H, W] bool
    """Pixels beside an occlusion or the mesh's outline."""
    far = torch.where(depth.isfinite(), depth, torch.full_like(depth, 1e3))
    return spread_max(far, 1) - spread_min(far, 1) > jump


def part_edges(part: Tensor) -> Tensor:  # [H, W] long: -1 empty, 0 skin, > 0 eyeball, mouth parts ...
    """Pixels [H, W] bool so near another part that a small misfit gives them its colour."""
    label = part.float()
    covered = part >= 0
    edge = torch.zeros_like(covered)
    for radius, mine in ((SKIN_MARGIN, part == 0), (PART_MARGIN, part > 0)):
        high = spread_max(torch.where(covered, label, torch.full_like(label, -1e3)), radius)
        low = spread_min(torch.where(covered, label, torch.full_like(label, 1e3)), radius)
        edge |= mine & (high != low)
    return edge


def pixel_samples(
    camera: Camera,
    vertices: Tensor,  # [V, 3] m
    faces: Tensor,  # [F, 3]
    uvs: Tensor,  # [Vt, 2]
    uv_faces: Tensor,  # [F, 3]
    alpha: Tensor,  # [H, W] in [0, 1], the view's mask
    face_part: Tensor | None = None,  # [F] long, 0 skin
    *,
    backend: str = "auto",
) -> PixelSamples:
    """Rasterise the posed mesh and keep the pixels that see it clearly.

    Pixels outside the eroded mask, beside occlusions, beside another part, or seen from behind are dropped;
    the rest count with the eroded mask's alpha. No gradient goes to the geometry.
    """
    H, W = alpha.shape
    with torch.no_grad():
        fragments = rasterize(vertices, faces, camera, backend=backend, size=(H, W))
        covered = fragments.face_index >= 0
        points = interpolate(fragments, faces, vertices)
        normals = F.normalize(interpolate(fragments, faces, vertex_normals(vertices, faces)), dim=-1)
        cosine = (normals * camera.view_directions(points)).sum(-1).clamp(0, 1)
        reliability = spread_min(alpha, EDGE_PIXELS) * covered * (cosine > 0)
        reliability = reliability * ~depth_edges(fragments.depth)
        if face_part is not None:
            part = torch.where(covered, face_part[fragments.face_index.clamp_min(0)], -1)
            reliability = reliability * ~part_edges(part)
        uv = interpolate(fragments, uv_faces, uvs)
        pixel = torch.arange(H * W, device=alpha.device)
        samples = PixelSamples(
            pixel,
            uv.reshape(-1, 2),
            cosine.reshape(-1),
            reliability.reshape(-1),
            fragments.face_index.reshape(-1),
            fragments.barycentric.reshape(-1, 3),
        )
        return samples.keep(samples.reliability)
