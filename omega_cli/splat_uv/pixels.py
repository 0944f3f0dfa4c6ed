"""What each pixel of a view says about the UV map: where it lands, how it faces us, how far to trust it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.geometry.camera import Camera
from omega_cli.geometry.mesh import vertex_normals
from omega_cli.geometry.raster import Fragments, blend, interpolate, rasterize_views

EDGE_PIXELS = 2  # ours: pixels this near the mask's edge may hold background
DEPTH_JUMP = 0.012  # ours, m across 3 pixels: more is an occlusion, where a small misfit shows the wrong side
PART_MARGIN = 1  # ours, px: skin this near an eyeball or the mouth's inside may hold its colour, and the
# other way round; more would cost the lash line and the sclera
LEAST_RELIABILITY = 0.02  # ours: a fainter pixel is background


@dataclass(frozen=True)
class PixelSamples:
    """The P pixels of one view that carry information.

    pixel [P] flat index into H*W; uv [P, 2]; cosine [P] = max(0, n.v) in [0, 1]; reliability [P] in
    (0.02, 1]; face_index [P] and barycentric [P, 3], the surface point seen. K views of one size may be held
    together, with a leading dimension: then every pixel of each is there, in order, and those that carry
    nothing have reliability 0. A GPU needs no counts for that and never waits.
    """

    pixel: Tensor
    uv: Tensor
    cosine: Tensor
    reliability: Tensor
    face_index: Tensor
    barycentric: Tensor

    @property
    def together(self) -> bool:
        """Several views are held together."""
        return self.reliability.ndim == 2

    def points(self, vertices: Tensor, faces: Tensor) -> Tensor:  # [V, 3], [F, 3] -> [P, 3]
        """The seen surface points of one view on any pose of the mesh."""
        return blend(vertices, faces, self.face_index, self.barycentric)

    def gather(self, image: Tensor) -> Tensor:  # [C, H, W] -> [P, C], or [K, C, H, W] -> [K, P, C]
        """The image's values at these pixels; differentiable to the image."""
        return image.flatten(2).mT if self.together else image.flatten(1).index_select(1, self.pixel).T

    def keep(self, reliability: Tensor) -> PixelSamples:
        """The same samples with another reliability; those near 0 are dropped (together: set to 0)."""
        kept = replace(self, reliability=_trusted(reliability))
        return kept if self.together else kept.subset(torch.nonzero(kept.reliability).squeeze(1))

    def subset(self, idx: Tensor) -> PixelSamples:
        """The chosen samples of one view."""
        return PixelSamples(*(getattr(self, f.name).index_select(0, idx) for f in fields(PixelSamples)))


def _trusted(reliability: Tensor) -> Tensor:
    """A fainter pixel than the limit is background: 0."""
    return reliability * (reliability > LEAST_RELIABILITY)


def spread_max(image: Tensor, radius: int) -> Tensor:  # [..., H, W] -> [..., H, W]
    """Largest value within `radius` pixels (square window); no gradient."""
    if image.is_cuda:
        flat = image.reshape(1, -1, *image.shape[-2:])
        return F.max_pool2d(flat, 2 * radius + 1, stride=1, padding=radius).view(image.shape)
    return _spread_by_shifts(image, radius)


def _spread_by_shifts(image: Tensor, radius: int) -> Tensor:
    """Rows, then columns, against themselves moved: a CPU's max_pool2d takes fifty times as long, a GPU's
    is one launch."""
    for axis in (-1, -2):
        side, spread = image.shape[axis], image.clone()
        for shift in range(1, min(radius, side - 1) + 1):
            for low, high in ((0, shift), (shift, 0)):
                here = spread.narrow(axis, low, side - shift)
                torch.maximum(here, image.narrow(axis, high, side - shift), out=here)
        image = spread
    return image


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
    together: bool = False,
    backend: str = "auto",
) -> list[PixelSamples]:
    """`pixel_samples` of several views: one at a time, which stays in a CPU's cache, or, those of one size,
    all together as one, with few launches and no waiting, for a GPU."""
    cameras = [
        camera if (camera.height, camera.width) == alpha.shape else camera.resized(*alpha.shape[::-1])
        for camera, alpha in zip(cameras, alphas, strict=True)
    ]
    with torch.no_grad():
        surface = (vertices, faces, vertex_normals(vertices, faces), face_part)
        if not together:
            return [
                _chosen(*_seen([camera], *surface, alpha[None], interpolate, backend), uvs, uv_faces)
                for camera, alpha in zip(cameras, alphas, strict=True)
            ]
        every = _seen(cameras, *surface, torch.stack(list(alphas)), _interpolate_plainly, backend)
        return [_together(*every, uvs, uv_faces)]


def _seen(
    cameras: list[Camera],
    vertices: Tensor,
    faces: Tensor,
    normals: Tensor,  # [V, 3]
    face_part: Tensor | None,
    alpha: Tensor,  # [K, H, W]
    interpolated: Callable[[Fragments, Tensor, Tensor], Tensor],
    backend: str,
) -> tuple[Fragments, Tensor, Tensor]:
    """What views of one size show, the cosines and the reliabilities [K, H, W]."""
    fragments = rasterize_views(vertices, faces, cameras, backend=backend)
    normal = F.normalize(interpolated(fragments, faces, normals), dim=-1)
    if all(camera.model == "ortho" for camera in cameras):
        towards = -torch.stack([camera.viewmat for camera in cameras]).to(vertices)[:, None, None, 2, :3]
    else:
        points = interpolated(fragments, faces, vertices)
        towards = torch.stack([c.view_directions(p) for c, p in zip(cameras, points, strict=True)])
    cosine = (normal * towards).sum(-1).clamp(0, 1)
    seen = (cosine > 0) & ~depth_edges(fragments.depth)  # where empty, the normal and the cosine are 0
    if face_part is not None:
        # an empty pixel's face -1 is the last: one more, that is no part
        seen &= ~part_edges(F.pad(face_part, (0, 1), value=-1)[fragments.face_index])
    return fragments, cosine, _trusted(spread_min(alpha, EDGE_PIXELS) * seen)


def _interpolate_plainly(fragments: Fragments, faces: Tensor, values: Tensor) -> Tensor:
    """`interpolate` for finite values, whose gradient nobody asks for: empty pixels take 0 of face 0."""
    index, weights = fragments.face_index.flatten().clamp_min(0), fragments.barycentric.reshape(-1, 3)
    return blend(values, faces, index, weights).view(*fragments.face_index.shape, -1)


def _chosen(
    fragments: Fragments, cosine: Tensor, reliability: Tensor, uvs: Tensor, uv_faces: Tensor
) -> PixelSamples:
    """The pixels of one view that carry information."""
    pixel = torch.nonzero(reliability.flatten()).squeeze(1)
    cosine, reliability, face_index = (
        t.flatten().index_select(0, pixel) for t in (cosine, reliability, fragments.face_index)
    )
    barycentric = fragments.barycentric.reshape(-1, 3).index_select(0, pixel)
    uv = blend(uvs, uv_faces, face_index, barycentric)
    return PixelSamples(pixel, uv, cosine, reliability, face_index, barycentric)


def _together(
    fragments: Fragments, cosine: Tensor, reliability: Tensor, uvs: Tensor, uv_faces: Tensor
) -> PixelSamples:
    """Every pixel of every view."""
    pixel = torch.arange(cosine[0].numel(), device=cosine.device).expand(len(cosine), -1)
    uv = _interpolate_plainly(fragments, uv_faces, uvs).flatten(1, 2)
    face_index, barycentric = fragments.face_index.flatten(1), fragments.barycentric.flatten(1, 2)
    return PixelSamples(pixel, uv, cosine.flatten(1), reliability.flatten(1), face_index, barycentric)
