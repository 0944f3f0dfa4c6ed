"""What the kernels mean, in plain torch: any device, any float type, differentiable by autograd.

Slow on purpose-built hardware terms, but complete: without a compiler the whole program runs on these.
The Gaussian oracle lives in `gaussian_reference.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor

NEAR = 0.01  # m; faces and Gaussians nearer than this are not drawn (gsplat's default near_plane)
_CANDIDATES = 4_000_000  # (face, pixel) pairs looked at together: bounds the memory of mesh_raster


def uv_splat(
    values: Tensor,  # [B, P, C]
    uv: Tensor,  # [B, P, 2] in [0, 1], origin top left
    size: tuple[int, int],
) -> Tensor:  # [B, H, W, C]
    """Sum each point into its four nearest texels, bilinearly (eq. 4).

    Texels outside the map get nothing, nor does anything from a point whose uv is not finite. A value
    that is NaN or infinite reaches only the texels in which it has a weight.
    """
    B, C, (H, W) = values.shape[0], values.shape[2], size
    valid = uv.detach().isfinite().all(-1)
    uv = torch.where(valid[..., None], uv, -1.0)  # far outside, so that it is dropped
    x, y = uv[..., 0] * W - 0.5, uv[..., 1] * H - 0.5
    x0, y0 = x.detach().floor(), y.detach().floor()
    broken = ~values.detach().isfinite()
    out = values.new_zeros(B, H * W, C)
    for dy, wy in ((0, 1 - (y - y0)), (1, y - y0)):
        for dx, wx in ((0, 1 - (x - x0)), (1, x - x0)):
            xi, yi = x0 + dx, y0 + dy  # floats: a uv of 1e30 has no integer
            inside = valid & (xi >= 0) & (xi < W) & (yi >= 0) & (yi < H)
            texel = (yi.clamp(0, H - 1) * W + xi.clamp(0, W - 1)).long()
            weight = torch.where(inside, wx * wy, 0.0)[..., None]
            part = torch.where(broken & (weight == 0), 0.0, values) * weight
            out = out.scatter_add(1, texel[..., None].expand(-1, -1, C), part)
    return out.reshape(B, H, W, C)


def pool(
    image: Tensor,  # [B, H, W, C], H and W even
) -> Tensor:  # [B, H / 2, W / 2, C]
    """The next coarser level: sums of two by two texels. A NaN spreads to the texel that holds it."""
    return image.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).sum((2, 4))


def mesh_raster(
    clip_vertices: Tensor,  # [V, 4]
    faces: Tensor,  # [F, 3]
    size: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Nearest face at each pixel centre: face_index [H, W], barycentric [H, W, 3], depth [H, W].

    See `mesh_raster.rasterize_mesh` for the meaning of every argument.
    """
    H, W = size
    clip_vertices = clip_vertices.detach()
    best_z = clip_vertices.new_full((H * W,), float("inf"))
    best_face = torch.full((H * W,), -1, dtype=torch.int64, device=faces.device)
    barycentric = clip_vertices.new_zeros(H * W, 3)
    pixels = clip_vertices[:, :2] / clip_vertices[:, 3:]
    kept, low, high = _face_boxes(clip_vertices, pixels, faces, H, W)
    widths = high - low + 1
    areas = widths[:, 0] * widths[:, 1]
    # Groups of faces in their own order, so that among equal depths the lower face index stays.
    group = (areas.cumsum(0) - 1).clamp_min(0) // _CANDIDATES
    for members in torch.unique(group).tolist():
        pick = (group == members).nonzero()[:, 0]
        owner = torch.repeat_interleave(pick, areas[pick])
        first = areas[pick].cumsum(0) - areas[pick]
        local = torch.arange(len(owner), device=owner.device) - torch.repeat_interleave(first, areas[pick])
        column = low[owner, 0] + local % widths[owner, 0]
        row = low[owner, 1] + local // widths[owner, 0]
        covered, b, z = _inside_face(clip_vertices, pixels, faces[kept[owner]], column, row)
        where, face, b, z = (row * W + column)[covered], kept[owner][covered], b[covered], z[covered]
        nearest = best_z.scatter_reduce(0, where, z, "amin")
        wins = (z == nearest[where]) & (z < best_z[where])
        where, face, b = where[wins], face[wins], b[wins]
        lowest = torch.full_like(best_face, len(faces)).scatter_reduce(0, where, face, "amin")
        wins = face == lowest[where]
        best_z, best_face[where[wins]], barycentric[where[wins]] = nearest, face[wins], b[wins]
    return best_face.reshape(H, W), barycentric.reshape(H, W, 3), best_z.reshape(H, W)


def _face_boxes(clip: Tensor, pixels: Tensor, faces: Tensor, H: int, W: int) -> tuple[Tensor, Tensor, Tensor]:
    """Faces that may be seen [n], and the first and last pixel (column, row) of each: [n, 2] twice."""
    corners = pixels[faces]  # [F, 3, 2]
    drawable = clip[faces].isfinite().all(-1).all(-1) & (clip[faces][..., 2] > NEAR).all(-1)
    drawable &= corners.isfinite().all(-1).all(-1)
    corners = torch.where(drawable[:, None, None], corners, -9.0)
    bounds = torch.tensor([W - 1, H - 1], device=pixels.device)
    low = (corners.amin(1) - 0.5).ceil().clamp(min=0).minimum(bounds + 1).long()
    high = (corners.amax(1) - 0.5).floor().clamp(min=-1).minimum(bounds).long()
    kept = (drawable & (high >= low).all(-1)).nonzero()[:, 0]
    return kept, low[kept], high[kept]


def _inside_face(
    clip: Tensor, pixels: Tensor, corners: Tensor, column: Tensor, row: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Is the pixel centre inside its face [n]; perspective-correct barycentrics [n, 3]; depth [n].

    Each edge is measured from its lower-numbered vertex, so that the two faces of a shared edge see
    exactly opposite values and no crack opens between them.
    """
    x, y = column.to(pixels) + 0.5, row.to(pixels) + 0.5
    edges = []
    for k in range(3):
        start, end = corners[:, (k + 1) % 3], corners[:, (k + 2) % 3]
        sign = torch.where(start <= end, 1.0, -1.0).to(pixels)
        p, q = pixels[torch.minimum(start, end)], pixels[torch.maximum(start, end)]
        edge = (q[:, 0] - p[:, 0]) * (y - p[:, 1]) - (q[:, 1] - p[:, 1]) * (x - p[:, 0])
        edges.append(sign * edge)
    e = torch.stack(edges, dim=-1)
    a, b, c = (pixels[corners[:, k]] for k in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    covered = ((e >= 0).all(-1) | (e <= 0).all(-1)) & (area.abs() > 1e-12)
    weighted = e / clip[corners][..., 3]
    total = weighted.sum(-1, keepdim=True)
    covered &= total[:, 0] != 0
    barycentric = weighted / torch.where(total == 0, 1.0, total)
    return covered, barycentric, (barycentric * clip[corners][..., 2]).sum(-1)
