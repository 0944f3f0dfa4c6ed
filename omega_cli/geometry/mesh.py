"""Triangle meshes: normals, areas, edges, the uniform Laplacian (paper Eq. 3)."""

from __future__ import annotations

import torch
from torch import Tensor


def face_corners(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three corners [..., F, 3] of every face."""
    a, b, c = (vertices.index_select(-2, faces[:, k]) for k in range(3))
    return a, b, c


def face_cross(vertices: Tensor, faces: Tensor) -> Tensor:  # [..., V, 3] -> [..., F, 3]
    """Outward face normals whose length is twice the area (counter-clockwise seen from outside)."""
    a, b, c = face_corners(vertices, faces)
    return torch.linalg.cross(b - a, c - a)


def face_normals(vertices: Tensor, faces: Tensor) -> Tensor:  # [..., V, 3] -> [..., F, 3] unit
    return torch.nn.functional.normalize(face_cross(vertices, faces), dim=-1, eps=1e-20)


def face_areas(vertices: Tensor, faces: Tensor) -> Tensor:  # [..., V, 3] m -> [..., F] m^2
    return face_cross(vertices, faces).norm(dim=-1) / 2


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:  # [..., V, 3] -> [..., V, 3] unit
    """Area-weighted smooth normals; zero where a vertex has no face."""
    cross = face_cross(vertices, faces)
    # one index_add over all corners: three separate ones cost three passes over the output
    corners = torch.cat([cross, cross, cross], dim=-2)
    total = torch.zeros_like(vertices).index_add(-2, faces.T.reshape(-1), corners)
    return torch.nn.functional.normalize(total, dim=-1, eps=1e-20)


def edges(faces: Tensor) -> Tensor:  # [F, 3] -> [E, 2] unique, each row sorted, rows in order
    pairs = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    low, high = pairs.sort(dim=1).values.long().T
    count = int(faces.max()) + 1 if len(faces) else 1
    keys = torch.unique(low * count + high)  # numbers sort ten times faster than rows
    return torch.stack([keys // count, keys % count], 1).to(faces.dtype)


def uniform_laplacian(faces: Tensor, vertex_count: int) -> Tensor:
    """Sparse [V, V] float32 L with (L v)_i = v_i - mean of i's neighbours (paper Eq. 3).

    A vertex without neighbours gets a zero row.
    """
    e = edges(faces)
    i, j = torch.cat([e, e.flip(1)]).T
    degree = torch.bincount(i, minlength=vertex_count)
    used = torch.nonzero(degree).squeeze(1)
    rows, columns = torch.cat([used, i]), torch.cat([used, j])
    values = torch.cat([torch.ones(len(used), device=faces.device), -1.0 / degree[i]])
    size = (vertex_count, vertex_count)
    return torch.sparse_coo_tensor(
        torch.stack([rows, columns]), values, size, check_invariants=False
    ).coalesce()
