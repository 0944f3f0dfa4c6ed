"""What each pixel of a view says about the UV map: where it lands, how it faces us, how far to trust it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.geometry.camera import Camera
from omega_cli.geometry.mesh import vertex_normals
from omega_cli.geometry.raster import Fragments, interpolate, rasterize_views

EDGE_PIXELS = 2  # ours: pixels this near the mask's edge may hold background
DEPTH_JUMP = 0.012  # ours, m across 3 pixels: more is an occlusion, where a small misfit shows the wrong side
PART_MARGIN = 1  # ours, px: skin this near an eyeball or the mouth's inside may hold its colour, and the
# other way round; more would cost the lash line and the sclera
LEAST_RELIABILITY = 0.02  # ours: a fainter pixel is background


@dataclass(frozen=True)
class PixelSamples:
    """The P pixels of one view that carry information.

    pixel [P] flat index into H*W; uv [P, 2]; cosine [P] = max(0, n.v) in [0, 1]; reliability [P] in
    (0.02, 1]; face_index [P] and barycentric [P, 3], the surface point seen. On CUDA, where choosing
    pixels would wait for the device, every pixel of the view is there and the others have reliability 0.
    """

    pixel: Tensor
    uv: Tensor
    cosine: Tensor
    reliability: Tensor
    face_index: Tensor
    barycentric: Tensor

    def points(self, vertices: Tensor, faces: Tensor) -> Tensor:  # [V, 3], [F, 3] -> [P, 3]
        """The seen surface points on any pose of the mesh."""
        return blend(vertices, faces, self.face_index, self.barycentric)

    def gather(self, image: Tensor) -> Tensor:  # [C, H, W] -> [P, C]
        """The image's values at these pixels; differentiable to the image."""
        return image.flatten(1).index_select(1, self.pixel).T

    def keep(self, reliability: Tensor) -> PixelSamples:
        """The same samples with another reliability [P]; those near 0 are dropped (CUDA: set to 0)."""
        kept = replace(self, reliability=_trusted(reliability))
        return kept if reliability.is_cuda else kept.subset(torch.nonzero(kept.reliability).squeeze(1))

    def subset(self, idx: Tensor) -> PixelSamples:
        """The chosen samples."""
        return PixelSamples(*(getattr(self, f.name).index_select(0, idx) for f in fields(PixelSamples)))


def _trusted(reliability: Tensor) -> Tensor:
    """A fainter pixel than the limit is background: 0."""
    return torch.where(reliability > LEAST_RELIABILITY, reliability, 0.0)


def blend(values: Tensor, faces: Tensor, face_index: Tensor, barycentric: Tensor) -> Tensor:  # -> [P, C]
    """Per-vertex values [V, C] at surface points [P]; no gradient."""
    corners = faces.index_select(0, face_index.clamp_min(0))
    return F.embedding_bag(corners, values, per_sample_weights=barycentric, mode="sum")


def spread_max(image: Tensor, radius: int) -> Tensor:  # [..., H, W] -> [..., H, W]
    """Largest value within `radius` pixels (square window)."""
    flat = image.reshape(1, -1, *image.shape[-2:])
    return F.max_pool2d(flat, 2 * radius + 1, stride=1, padding=radius).view(image.shape)


def spread_min(image: Tensor, radius: int) -> Tensor:  # [..., H, W] -> [..., H, W]
    return -spread_max(-image, radius)


def depth_edges(depth: Tensor, jump: float = DEPTH_JUMP) -> Tensor:  # [..., H, W] m, +inf empty -> bool
    """Pixels beside an occlusion or the mesh's outline."""
    far = depth.clamp_max(1e3)
    return spread_max(far, 1) - spread_min(far, 1) > jump


def part_edges(part: Tensor) -> Tensor:  # [..., H, W] long: -1 empty, 0 skin, > 0 eyeball, mouth parts ...
    """Pixels [..., H, W] bool so near another part that a small misfit gives them its colour."""
    label, covered = part.float(), part >= 0
    high = spread_max(label, PART_MARGIN)  # an empty pixel's -1 is below every part
    low = spread_min(torch.where(covered, label, 1e3), PART_MARGIN)
    return covered & (high != low)


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
    mesh = (vertices, faces, uvs, uv_faces)
    return view_samples([camera], *mesh, [alpha], face_part, backend=backend)[0]


def view_samples(
    cameras: Sequence[Camera],  # K
    vertices: Tensor,
    faces: Tensor,
    uvs: Tensor,
    uv_faces: Tensor,
    alphas: Sequence[Tensor],  # K of [H, W]
    face_part: Tensor | None = None,
    *,
    backend: str = "auto",
) -> list[PixelSamples]:  # K
    """`pixel_samples` of several views; on CUDA those of one size together."""
    cameras = [
        camera if (camera.height, camera.width) == alpha.shape else camera.resized(*alpha.shape[::-1])
        for camera, alpha in zip(cameras, alphas, strict=True)
    ]
    K = len(cameras)
    if alphas[0].is_cuda and len({alpha.shape for alpha in alphas}) == 1:
        groups = [range(K)]
    else:  # one view at a time stays in a CPU's cache
        groups = [range(k, k + 1) for k in range(K)]
    mesh, samples = (vertices, faces, uvs, uv_faces, face_part), []
    with torch.no_grad():
        normals = vertex_normals(vertices, faces)
        for group in groups:
            masks = torch.stack([alphas[k] for k in group])
            samples += _group_samples([cameras[k] for k in group], *mesh, masks, normals, backend)
    return samples


def _group_samples(
    cameras: list[Camera],
    vertices: Tensor,
    faces: Tensor,
    uvs: Tensor,
    uv_faces: Tensor,
    face_part: Tensor | None,
    alpha: Tensor,  # [K, H, W]
    normals: Tensor,  # [V, 3]
    backend: str,
) -> list[PixelSamples]:
    """Views of one size."""
    K, H, W = alpha.shape
    fragments = rasterize_views(vertices, faces, cameras, backend=backend)
    normal = F.normalize(interpolate(fragments, faces, normals), dim=-1)
    cosine = (normal * _towards(cameras, fragments, faces, vertices)).sum(-1).clamp(0, 1)
    seen = (cosine > 0) & ~depth_edges(fragments.depth)  # where empty, the normal and the cosine are 0
    if face_part is not None:
        part = torch.where(fragments.mask, face_part[fragments.face_index], -1)
        seen &= ~part_edges(part)
    reliability = _trusted(spread_min(alpha, EDGE_PIXELS) * seen)
    pixel = torch.arange(H * W, device=alpha.device).repeat(K)
    flat = (cosine, reliability, fragments.face_index)
    rest = [pixel, *(t.flatten() for t in flat), fragments.barycentric.reshape(-1, 3)]
    if not alpha.is_cuda:
        assert K == 1
        kept = torch.nonzero(rest[2]).squeeze(1)
        rest = [t.index_select(0, kept) for t in rest]
    uv = blend(uvs, uv_faces, rest[3], rest[4])
    of_views = zip(*(t.chunk(K) for t in (rest[0], uv, *rest[1:])), strict=True)
    return [PixelSamples(*parts) for parts in of_views]


def _towards(cameras: list[Camera], fragments: Fragments, faces: Tensor, vertices: Tensor) -> Tensor:
    """Unit vectors [K, H, W, 3] (or [K, 1, 1, 3]) from the seen points towards each camera."""
    if all(camera.model == "ortho" for camera in cameras):
        return -torch.stack([camera.viewmat for camera in cameras]).to(vertices)[:, None, None, 2, :3]
    points = interpolate(fragments, faces, vertices)
    return torch.stack([c.view_directions(p) for c, p in zip(cameras, points, strict=True)])
