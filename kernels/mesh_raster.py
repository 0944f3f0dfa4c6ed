"""Mesh z-buffer: which face, and where on it, is seen at every pixel centre."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from omega_cli.kernels import _backend, reference
from omega_cli.kernels._ops import cpu_operator

NEAR = reference.NEAR


@dataclass(frozen=True)
class Fragments:
    """What a mesh shows at each pixel centre; several views have a leading dimension B.

    face_index [H, W] int64, -1 where empty; barycentric [H, W, 3], perspective-correct, 0 where empty;
    depth [H, W] m along the camera's z, +inf where empty.
    """

    face_index: Tensor
    barycentric: Tensor
    depth: Tensor

    @property
    def mask(self) -> Tensor:
        """[H, W] bool: some face is seen."""
        return self.face_index >= 0

    def __getitem__(self, view: int) -> Fragments:
        """One of several views."""
        return Fragments(self.face_index[view], self.barycentric[view], self.depth[view])


def rasterize_mesh(
    clip_vertices: Tensor,  # [V, 4], or [B, V, 4] for B views of one mesh
    faces: Tensor,  # [F, 3] int64
    size: tuple[int, int],
    *,
    backend: str = "auto",
) -> Fragments:
    """Nearest face at every pixel centre (i + 0.5) of an H x W image; B views give Fragments [B, H, W].

    clip_vertices: (x, y, z, w) with the pixel position (x / w, y / w), z the camera depth in metres;
    w = z for a pinhole camera and 1 for an orthographic one. Both sides of a face are drawn. A face
    with a corner nearer than NEAR, or with a coordinate that is not finite, is left out whole. Of two
    faces at the same depth the lower index wins. Shared edges have no cracks.

    Nothing here carries a gradient: differentiate through `geometry.raster.interpolate` (to the
    interpolated values); coverage and barycentrics are constants.
    """
    if clip_vertices.ndim not in (2, 3) or clip_vertices.shape[-1] != 4:
        raise ValueError(f"clip_vertices must be [V, 4] or [B, V, 4], got {tuple(clip_vertices.shape)}")
    if faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(f"faces must be [F, 3], got {tuple(faces.shape)}")
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"size must be positive, got {size}")
    clip, faces = clip_vertices.detach(), faces.to(torch.int64)
    native = _backend.choose(backend, clip) == "native"
    if not native and len(faces) and (int(faces.min()) < 0 or int(faces.max()) >= clip.shape[-2]):
        raise ValueError(f"faces name vertices outside 0 .. {clip.shape[-2] - 1}")
    views = clip[None] if clip.ndim == 2 else clip
    draw = _mesh_raster if native else lambda c, f, h, w: reference.mesh_raster(c, f, (h, w))
    parts = [draw(view, faces, height, width) for view in views]
    if clip.ndim == 2:
        return Fragments(*parts[0])
    if not parts:
        raise ValueError("clip_vertices has no view")
    return Fragments(*map(torch.stack, zip(*parts, strict=True)))


@cpu_operator("mesh_raster")
def _mesh_raster(
    clip_vertices: Tensor, faces: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    clip_vertices, faces = clip_vertices.contiguous(), faces.contiguous()
    face_index = torch.empty(height, width, dtype=torch.int64)
    barycentric = clip_vertices.new_empty(height, width, 3)
    depth = clip_vertices.new_empty(height, width)
    failed = _backend.library().omega_mesh_raster(
        _backend.pointer(clip_vertices),
        _backend.integer(len(clip_vertices)),
        _backend.pointer(faces),
        _backend.integer(len(faces)),
        _backend.integer(height),
        _backend.integer(width),
        _backend.threads(),
        _backend.pointer(face_index),
        _backend.pointer(barycentric),
        _backend.pointer(depth),
    )
    if failed:
        raise ValueError(f"faces name vertices outside 0 .. {len(clip_vertices) - 1}")
    return face_index, barycentric, depth


@_mesh_raster.register_fake
def _(clip_vertices: Tensor, faces: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    return (
        faces.new_empty(height, width),
        clip_vertices.new_empty(height, width, 3),
        clip_vertices.new_empty(height, width),
    )
