"""Gaussians laid on a UV-mapped surface: one per covered texel, one per vertex."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.gaussians.model import Gaussians
from omega_cli.geometry.mesh import edges, face_areas, face_corners, vertex_normals
from omega_cli.geometry.rotation import matrix_to_quat
from omega_cli.geometry.uvmap import rasterize_uv
from omega_cli.kernels.mesh_raster import rasterize_mesh

THICKNESS = 0.15  # ours: sigma along the normal, in units of the smaller tangent sigma
MAX_SIGMA = 0.006  # ours, m: a stretched face must not become a visible disc
MIN_SIGMA = 2e-5  # m: thinner than any pixel, yet safe to invert
SPARSE = 2.0  # ours: texels are sparse where they are this many times further apart than vertices
CONFINE = 0.7  # ours: largest texel spacing on a confined face, in units of its side
VERTEX_EDGE = 0.12  # ours: sigma of a vertex Gaussian in units of its mean edge
SPARSE_EDGE = 0.45  # ours: the same where texels are sparse and vertices must close the surface
SPARSE_OPACITY = 0.95


@dataclass(frozen=True)
class Footprints:
    """How one texel lies on each face: rotation [F, 3, 3] with columns (tangent, tangent, outward normal),
    extent [F, 2] m, the texel spacing along the two tangents (longer first)."""

    rotation: Tensor
    extent: Tensor


def any_tangent(normal: Tensor) -> Tensor:  # [..., 3] unit -> [..., 3] unit, perpendicular
    least = F.one_hot(normal.abs().argmin(-1), 3).to(normal)
    return F.normalize(torch.linalg.cross(normal, least), dim=-1, eps=1e-20)


def face_footprints(
    vertices: Tensor,  # [V, 3] m
    faces: Tensor,  # [F, 3]
    uvs: Tensor,  # [Vt, 2]
    uv_faces: Tensor,  # [F, 3]
    size: int,
) -> Footprints:
    """Principal axes of the map from texel steps to the surface.

    A unit circle in texels becomes an ellipse on the face; its axes are the singular vectors of the 3x2
    Jacobian, found in closed form from the 2x2 metric. Faces without UV area get a zero extent.
    """
    a, b, c = face_corners(vertices, faces)
    ua, ub, uc = face_corners(uvs * size, uv_faces)
    edge = torch.stack([b - a, c - a], dim=-1)  # [F, 3, 2] m
    step = torch.stack([ub - ua, uc - ua], dim=-1)  # [F, 2, 2] texels
    det = step[:, 0, 0] * step[:, 1, 1] - step[:, 0, 1] * step[:, 1, 0]
    usable = det.abs() > 1e-9
    adjugate = torch.stack([step[:, 1, 1], -step[:, 0, 1], -step[:, 1, 0], step[:, 0, 0]], -1).view(-1, 2, 2)
    jacobian = edge @ adjugate / torch.where(usable, det, 1.0)[:, None, None]
    jacobian = jacobian * usable[:, None, None]
    metric = jacobian.transpose(1, 2) @ jacobian
    p, q, r = metric[:, 0, 0], metric[:, 0, 1], metric[:, 1, 1]
    angle = 0.5 * torch.atan2(2 * q, p - r)
    axis = torch.stack([angle.cos(), angle.sin()], -1)
    across = torch.stack([-angle.sin(), angle.cos()], -1)
    first, second = ((jacobian @ d[..., None])[..., 0] for d in (axis, across))
    normal = F.normalize(torch.linalg.cross(b - a, c - a), dim=-1, eps=1e-20)
    tangent = F.normalize(first, dim=-1, eps=1e-20)
    # A sliver has no direction of its own: any frame about its normal does.
    tangent = torch.where((tangent.norm(dim=-1, keepdim=True) > 0.5), tangent, any_tangent(normal))
    rotation = torch.stack([tangent, torch.linalg.cross(normal, tangent), normal], dim=-1)
    return Footprints(rotation, torch.stack([first.norm(dim=-1), second.norm(dim=-1)], -1))


def covering_texels(uvs: Tensor, uv_faces: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Every texel that an island reaches, not only those whose centre it covers.

    face_index [R, R] (-1 empty) and barycentric [R, R, 3] of the texel's centre or, at an island's rim, of
    the nearest of eight points a third of a texel away: seams would else be up to a texel wide.
    """
    face_index, barycentric = rasterize_uv(uvs, uv_faces, size)
    third = 1 / 3
    straight = [(third, 0), (-third, 0), (0, third), (0, -third)]
    oblique = [(x, y) for x in (third, -third) for y in (third, -third)]
    one = torch.ones_like(uvs[:, :1])
    for x, y in straight + oblique:
        moved = uvs * size - uvs.new_tensor([x, y])
        seen = rasterize_mesh(torch.cat([moved, one, one], 1), uv_faces, (size, size))
        new = (face_index < 0) & (seen.face_index >= 0)
        face_index = torch.where(new, seen.face_index, face_index)
        barycentric = torch.where(new[..., None], seen.barycentric.to(barycentric), barycentric)
    return face_index, barycentric


def texel_gaussians(
    vertices: Tensor,  # [V, 3] m, canonical
    faces: Tensor,  # [F, 3]
    footprints: Footprints,
    face_index: Tensor,  # [N]
    barycentric: Tensor,  # [N, 3]
    colors: Tensor,  # [N, C]
    opacities: Tensor,  # [N]
    sigma: float,
    confined: Tensor | None = None,  # [F] bool
) -> Gaussians:
    """One flat Gaussian per texel, as wide as `sigma` texel spacings along each tangent.

    On `confined` faces it is no wider than the face: where a few texels cover a deep fold (the mouth's
    inside), wide discs would stick out of it; there the vertices close the surface.
    """
    corners = vertices[faces[face_index]]
    means = (corners * barycentric[..., None]).sum(1)
    extent = footprints.extent[face_index]
    if confined is not None:
        side = (2 * face_areas(vertices, faces)).sqrt()[face_index, None]
        extent = torch.where(confined[face_index, None], torch.minimum(extent, CONFINE * side), extent)
    tangent = (sigma * extent).clamp(MIN_SIGMA, MAX_SIGMA)
    normal = (THICKNESS * tangent.amin(1, keepdim=True)).clamp_min(MIN_SIGMA)
    quats = matrix_to_quat(footprints.rotation)[face_index]
    return Gaussians(means, quats, torch.cat([tangent, normal], 1), opacities, colors)


def vertex_spacing(extent: Tensor, faces: Tensor, vertex_count: int) -> Tensor:  # [F, 2] m -> [V, 2] m
    """Mean texel spacing (longer, shorter) over the faces around each vertex."""
    total = extent.new_zeros(vertex_count, 2).index_add(0, faces.flatten(), extent.repeat_interleave(3, 0))
    return total / torch.bincount(faces.flatten(), minlength=vertex_count).clamp_min(1)[:, None]


def vertex_gaussians(
    vertices: Tensor,  # [V, 3] m, canonical
    faces: Tensor,  # [F, 3]
    colors: Tensor,  # [V, C]
    opacities: Tensor,  # [V]
    spacing: Tensor,  # [V, 2] m, texel spacing around each vertex, longer and shorter
    sigma: float,  # of a texel Gaussian, in spacings
) -> Gaussians:
    """One flat Gaussian at each vertex: small, never wider than a texel, so that it does not blur texture.

    Where texels are further apart than vertices (the mouth's inside) it is the vertices that close the
    surface: there they are nearly opaque and reach halfway to their neighbours. Those whose `opacities`
    are 0 stay invisible.
    """
    pairs = edges(faces)
    length = (vertices[pairs[:, 0]] - vertices[pairs[:, 1]]).norm(dim=-1)
    total = torch.zeros_like(vertices[:, 0]).index_add(0, pairs.flatten(), length.repeat_interleave(2))
    edge = total / torch.bincount(pairs.flatten(), minlength=len(vertices)).clamp_min(1)
    sparse = ((spacing[:, 0] / edge.clamp_min(1e-6) - 1) / (SPARSE - 1)).clamp(0, 1)
    fine = torch.minimum(VERTEX_EDGE * edge, sigma * spacing[:, 1])
    width = torch.lerp(fine, SPARSE_EDGE * edge, sparse).clamp(MIN_SIGMA, MAX_SIGMA)
    opacities = torch.where(opacities > 0, torch.lerp(opacities, opacities * 0 + SPARSE_OPACITY, sparse), 0.0)
    normal = vertex_normals(vertices, faces)
    lonely = normal.norm(dim=-1, keepdim=True) < 0.5
    normal = torch.where(lonely, normal.new_tensor([0.0, 0.0, 1.0]), normal)
    tangent = any_tangent(normal)
    rotation = torch.stack([tangent, torch.linalg.cross(normal, tangent), normal], dim=-1)
    flat = (THICKNESS * width).clamp_min(MIN_SIGMA)
    scales = torch.stack([width, width, flat], 1)
    return Gaussians(vertices, matrix_to_quat(rotation), scales, opacities, colors)


def vertex_uvs(faces: Tensor, uvs: Tensor, uv_faces: Tensor, vertex_count: int) -> Tensor:  # [V, 2]
    """One UV per vertex (on a seam: that of its first face); NaN for vertices without a face."""
    corner = faces.flatten()
    order = torch.arange(len(corner), device=faces.device)
    first = torch.full((vertex_count,), len(corner), device=faces.device).scatter_reduce(
        0, corner, order, "amin"
    )
    used = first < len(corner)
    out = uvs.new_full((vertex_count, 2), float("nan"))
    out[used] = uvs[uv_faces.flatten()[first[used]]]
    return out
