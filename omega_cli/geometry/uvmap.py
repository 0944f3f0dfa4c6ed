"""UV maps: which triangle covers each texel, and what lies there. uv in [0, 1], origin top left."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from omega_cli.kernels.mesh_raster import rasterize_mesh

_CHUNK = 1 << 22  # candidate texels at a time: bounds the memory of big maps


@dataclass(frozen=True)
class UVRaster:
    """face_index [H, W] long, -1 where no triangle covers the texel's centre; barycentric [H, W, 3]
    (zeros there). Unpacks like a pair."""

    face_index: Tensor
    barycentric: Tensor

    @property
    def covered(self) -> Tensor:  # [H, W] bool
        return self.face_index >= 0

    def __iter__(self):
        return iter((self.face_index, self.barycentric))


def _candidates(uvs: Tensor, uv_faces: Tensor, size: int):
    """Chunks (face [n], texel [n], barycentric [n, 3]) of every (triangle, texel centre inside it)."""
    corners = (uvs * size - 0.5)[uv_faces]  # [F, 3, 2] in texel-centre units
    low = corners.amin(1).ceil().long().clamp(0, size)
    high = corners.amax(1).floor().long().clamp(-1, size - 1)
    extent = (high - low + 1).clamp_min(0)
    count = extent[:, 0] * extent[:, 1]
    ends = count.cumsum(0)
    start = 0
    while start < len(count):
        base = int(ends[start - 1]) if start else 0
        stop = max(int(torch.searchsorted(ends, base + _CHUNK, right=True)), start + 1)
        face = torch.repeat_interleave(torch.arange(start, stop, device=uvs.device), count[start:stop])
        index = torch.arange(len(face), device=uvs.device) - (ends - count)[face] + base
        x = low[face, 0] + index % extent[face, 0]
        y = low[face, 1] + index // extent[face, 0]
        p = torch.stack([x, y], dim=1).to(uvs.dtype)
        a, b, c = corners[face].unbind(1)
        area = _cross(b - a, c - a)
        u, v = _cross(c - b, p - b) / area, _cross(a - c, p - c) / area
        barycentric = torch.stack([u, v, 1 - u - v], dim=1)
        inside = (barycentric >= -1e-9).all(1) & (area != 0)
        yield face[inside], (y * size + x)[inside], barycentric[inside]
        start = stop


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def rasterize_uv(uvs: Tensor, uv_faces: Tensor, size: int) -> UVRaster:
    """Triangles [F, 3] of uvs [Vt, 2] on a size x size map; texel centres at (i + 0.5) / size.

    A centre on a shared edge goes to the lower face index. It is a mesh seen straight on, so the mesh
    rasteriser draws it.
    """
    flat = torch.ones(len(uvs), 4, device=uvs.device)
    flat[:, :2] = uvs * size
    seen = rasterize_mesh(flat, uv_faces, (size, size))
    return UVRaster(seen.face_index, seen.barycentric)


def count_uv(uvs: Tensor, uv_faces: Tensor, size: int) -> Tensor:
    """[H, W] how many triangles cover each texel centre strictly (edges excluded): > 1 is an overlap."""
    total = torch.zeros(size * size, dtype=torch.long, device=uvs.device)
    for _, texel, weights in _candidates(uvs.double(), uv_faces, size):
        strict = texel[(weights > 1e-7).all(1)]
        total += torch.bincount(strict, minlength=size * size)
    return total.reshape(size, size)


def uv_areas(uvs: Tensor, uv_faces: Tensor) -> Tensor:  # [F]
    """Signed area of every triangle in the unit square; positive = faces the viewer (outward)."""
    a, b, c = uvs[uv_faces].unbind(1)
    return -_cross(b - a, c - a) / 2  # v points down


def texel_values(values: Tensor, faces: Tensor, raster: UVRaster) -> Tensor:
    """Vertex values [V, C] at every texel [H, W, C]; zeros where nothing covers it. faces: the mesh's own."""
    corners = faces[raster.face_index.clamp_min(0)]  # [H, W, 3]
    return (values[corners] * raster.barycentric[..., None]).sum(-2)


def texel_positions(vertices: Tensor, faces: Tensor, raster: UVRaster) -> Tensor:
    """Surface point [H, W, 3] m under every texel centre; zeros where nothing covers it."""
    return texel_values(vertices, faces, raster)
