"""Mesh z-buffer: which face, and where on it, is seen at every pixel centre."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from omega_cli.kernels import _backend, reference
from omega_cli.kernels._backend import integer, pointer
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
    faces at the same depth the lower index wins. Shared edges have no cracks. Raises ValueError for a face
    that names no vertex; on CUDA, where looking would stall the queue, such a face is left out.

    backend: auto, native (float32, CPU or CUDA), torch.

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
    if clip_vertices.ndim == 3 and not len(clip_vertices):
        raise ValueError("clip_vertices has no view")
    clip, faces = clip_vertices.detach(), faces.to(torch.int64)
    views = clip[None] if clip.ndim == 2 else clip
    _backend.refuse_beyond(2**31, pixels=height * width, faces=len(faces), views=len(views) << 15)
    if _backend.choose(backend, views) == "native":
        parts = _mesh_raster(views, faces, height, width)
    else:
        if len(faces) and (int(faces.min()) < 0 or int(faces.max()) >= views.shape[1]):
            raise ValueError(f"faces name vertices outside 0 .. {views.shape[1] - 1}")
        drawn = [reference.mesh_raster(view, faces, (height, width)) for view in views]
        parts = tuple(torch.stack(part) for part in zip(*drawn, strict=True))
    return Fragments(*parts) if clip.ndim == 3 else Fragments(*parts)[0]


def _outputs(views: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    size = (len(views), height, width)
    face_index = torch.empty(size, dtype=torch.int64, device=views.device)
    return face_index, views.new_empty(*size, 3), views.new_empty(size)


@cpu_operator("mesh_raster")
def _mesh_raster(views: Tensor, faces: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    views, faces = views.contiguous(), faces.contiguous()
    outputs = _outputs(views, height, width)
    for clip, *parts in zip(views, *outputs, strict=True):
        failed = _backend.library().omega_mesh_raster(
            pointer(clip),
            integer(len(clip)),
            pointer(faces),
            integer(len(faces)),
            integer(height),
            integer(width),
            _backend.threads(),
            *map(pointer, parts),
        )
        if failed:
            raise ValueError(f"faces name vertices outside 0 .. {len(clip) - 1}")
    return outputs


@_mesh_raster.register_cuda
def _(views: Tensor, faces: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    views, faces = _backend.aligned(views), faces.contiguous()
    outputs = _outputs(views, height, width)
    buffer = torch.empty(outputs[0].shape, dtype=torch.int64, device=views.device)
    _backend.call_cuda(
        "omega_cuda_mesh_raster",
        views,
        integer(len(views)),
        pointer(views),
        integer(views.shape[1]),
        pointer(faces),
        integer(len(faces)),
        integer(height),
        integer(width),
        pointer(buffer),
        *map(pointer, outputs),
    )
    return outputs


@_mesh_raster.register_fake
def _(views: Tensor, faces: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    return _outputs(views, height, width)
