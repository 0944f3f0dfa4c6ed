"""Meshes seen by cameras: rasterised face index, barycentrics and depth, and interpolation of values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor

from omega_cli.geometry.camera import Camera
from omega_cli.kernels.mesh_raster import Fragments, rasterize_mesh

__all__ = [
    "BACKENDS",
    "Fragments",
    "blend",
    "clip_vertices",
    "interpolate",
    "rasterize",
    "rasterize_views",
]

BACKENDS = ("auto", "native", "torch", "pytorch3d")


def clip_vertices(vertices: Tensor, camera: Camera) -> Tensor:  # [V, 3] m -> [V, 4]
    """Homogeneous pixel coordinates (x, y, depth, w): pixel = (x / w, y / w), depth in metres."""
    return _clip_views(vertices, [camera])[0]


def _clip_views(vertices: Tensor, cameras: Sequence[Camera]) -> Tensor:  # [V, 3] m -> [B, V, 4]
    """`clip_vertices` of several cameras, all at once: few launches."""
    viewmats, Ks = (torch.stack([getattr(c, n) for c in cameras]).to(vertices) for n in ("viewmat", "K"))
    points = vertices @ viewmats[:, :3, :3].mT + viewmats[:, None, :3, 3]
    z = points[..., 2:]
    if len({camera.model for camera in cameras}) > 1:
        w = torch.cat([torch.ones_like(v) if c.model == "ortho" else v for c, v in zip(cameras, z.split(1))])
    else:
        w = torch.ones_like(z) if cameras[0].model == "ortho" else z
    focal = Ks.diagonal(dim1=1, dim2=2)[:, None, :2]
    return torch.cat([points[..., :2] * focal + w * Ks[:, None, :2, 2], z, w], -1)


def rasterize(
    vertices: Tensor,  # [V, 3] world, m
    faces: Tensor,  # [F, 3]
    camera: Camera,
    *,
    backend: str = "auto",
    size: int | tuple[int, int] | None = None,
) -> Fragments:
    """What `camera` sees of the mesh at each pixel centre; rules in `kernels.mesh_raster`.

    size: another image size (pixels of a square, or (height, width)); the camera is scaled to it.
    backend: auto (native where it can run, else torch), native, torch, pytorch3d. No gradient flows
    here: use `interpolate`. Raises OmegaError when the named backend is not available.
    """
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        raise ValueError(f"vertices must be [V, 3], got {tuple(vertices.shape)}")
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size
        camera = camera.resized(width, height)
    with torch.no_grad():
        if backend == "pytorch3d":
            from omega_cli.geometry.raster import pytorch3d_backend

            return pytorch3d_backend.rasterize(vertices, faces, camera)
        clip = clip_vertices(vertices, camera)
        return rasterize_mesh(clip, faces, (camera.height, camera.width), backend=backend)


def rasterize_views(
    vertices: Tensor,  # [V, 3] world, m
    faces: Tensor,  # [F, 3]
    cameras: Sequence[Camera],  # B, all of one image size
    *,
    backend: str = "auto",
) -> Fragments:  # [B, H, W]
    """One mesh through several cameras at once (one launch on a GPU); see `rasterize`."""
    sizes = {(camera.height, camera.width) for camera in cameras}
    if len(sizes) != 1:
        raise ValueError(f"cameras must be of one image size, got {sorted(sizes)}")
    if backend == "pytorch3d":
        views = [rasterize(vertices, faces, camera, backend=backend) for camera in cameras]
        return Fragments(*(torch.stack([getattr(v, f.name) for v in views]) for f in fields(Fragments)))
    with torch.no_grad():
        return rasterize_mesh(_clip_views(vertices, cameras), faces, sizes.pop(), backend=backend)


def interpolate(
    fragments: Fragments,
    faces: Tensor,  # [F, 3]
    values: Tensor,  # [V, C]
) -> Tensor:  # [H, W, C]
    """Per-vertex values at every pixel, zeros where empty.

    Differentiable with respect to `values` (a constant linear map); the fragments are constants, so
    no gradient reaches the silhouette or the vertex positions through them. `faces` may be another
    topology over the same face order (uv_faces with values = uvs).
    """
    index = fragments.face_index.flatten()
    weights = fragments.barycentric.reshape(-1, 3).to(values)
    if not len(faces):
        out = values.new_zeros(len(index), values.shape[1])
    elif index.is_cuda:
        out = _interpolate_all(index, weights, faces, values)
    else:
        out = _interpolate_seen(index, weights, faces, values)
    return out.reshape(*fragments.face_index.shape, values.shape[1])


def _interpolate_seen(index: Tensor, weights: Tensor, faces: Tensor, values: Tensor) -> Tensor:
    """At the covered pixels alone; for a CPU."""
    pixel = torch.nonzero(index >= 0).squeeze(1)
    blended = blend(values, faces, index.index_select(0, pixel), weights.index_select(0, pixel))
    return values.new_zeros(len(index), values.shape[1]).index_copy(0, pixel, blended)


def _interpolate_all(index: Tensor, weights: Tensor, faces: Tensor, values: Tensor) -> Tensor:
    """At every pixel: choosing the covered ones would wait for a GPU. The empty ones, of weight 0, borrow
    faces spread over the mesh: all on one, their gradients would queue for its three rows."""
    seen = index >= 0
    spread = torch.arange(len(index), device=index.device).remainder_(len(faces))
    blended = _gathered(values, faces, torch.where(seen, index, spread), weights)
    return torch.where(seen[:, None], blended, 0.0)


def blend(
    values: Tensor,  # [V, C]
    faces: Tensor,  # [F, 3]
    face_index: Tensor,  # [n], in range
    barycentric: Tensor,  # [n, 3]
) -> Tensor:  # [n, C]
    """Per-vertex values at surface points; differentiable with respect to `values`."""
    if values.is_cuda:
        return _gathered(values, faces, face_index, barycentric)
    return _Blend.apply(values, faces.index_select(0, face_index), barycentric)


def _gathered(values: Tensor, faces: Tensor, face_index: Tensor, barycentric: Tensor) -> Tensor:
    """`blend` by three gathers: a GPU's embedding_bag is slow for bags of three, a CPU's is the faster."""
    corners = values.index_select(0, faces.T.reshape(-1)).view(3, len(faces), values.shape[1])
    picked = [(v.index_select(0, face_index), w) for v, w in zip(corners, barycentric.split(1, dim=1))]
    out = picked[0][0] * picked[0][1]
    return torch.addcmul(torch.addcmul(out, *picked[1]), *picked[2])


class _Blend(torch.autograd.Function):
    """Weighted sums of three rows each, for a CPU. torch's own gradient of embedding_bag sorts all the
    indices: ten times the cost of adding the rows up."""

    @staticmethod
    def forward(values: Tensor, corners: Tensor, weights: Tensor) -> Tensor:  # [V, C], [n, 3] x 2 -> [n, C]
        return torch.nn.functional.embedding_bag(corners, values, per_sample_weights=weights, mode="sum")

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        values, corners, weights = inputs
        ctx.rows = len(values)
        ctx.save_for_backward(corners, weights)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        corners, weights = ctx.saved_tensors
        shares = (weights[..., None] * grad[:, None]).flatten(0, 1)
        return grad.new_zeros(ctx.rows, grad.shape[1]).index_add_(0, corners.flatten(), shares), None, None
