"""Gaussians bound to a triangle mesh: stored in local frames, posed with the surface.

Stored: each Gaussian in the frame of its face (or vertex) on the canonical mesh, in units of that
face's size, as in GaussianAvatars. Such numbers mean the same on every head.

Posed: not face by face, which would break a smooth cheek into facets, but with the deformation from
the canonical to the posed surface. Its tangent part is measured at the vertices (a fixed stencil over
the neighbours), split into a rotation and a stretch, and interpolated over each face: neighbouring
Gaussians turn and stretch alike across every edge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.gaussians.model import Gaussians
from omega_cli.gaussians.surface_motion import SurfaceMotion
from omega_cli.geometry.mesh import face_corners, vertex_normals
from omega_cli.geometry.rotation import matrix_to_quat, quat_multiply, quat_to_matrix
from omega_cli.kernels import _backend
from omega_cli.kernels.gaussian_pose import gaussian_pose

_TINY = 1e-12  # m^2: a face of less area has no direction of its own


@dataclass(frozen=True)
class Binding:
    """Where N Gaussians sit: face_index [N] int64, barycentric [N, 3], and their shift from that point,
    local_offsets [N, 3], in the face frame and in units of the face scale."""

    face_index: Tensor
    barycentric: Tensor
    local_offsets: Tensor


def face_frames(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Frame of every face: origin [F, 3] (centroid, m), R [F, 3, 3], scale [F] (m).

    R's columns are the direction of the first edge, the in-plane perpendicular and the outward normal;
    scale is the root of twice the area (the legs of a right isosceles triangle as large). A face
    without area gets the identity and a scale of 1e-6 m.
    """
    a, b, c = face_corners(vertices, faces)
    cross = torch.linalg.cross(b - a, c - a)
    twice_area = cross.norm(dim=-1)
    usable = (twice_area > _TINY)[:, None]
    normal = torch.where(usable, F.normalize(cross, dim=-1, eps=1e-20), cross.new_tensor([0.0, 0.0, 1.0]))
    tangent = torch.where(usable, F.normalize(b - a, dim=-1, eps=1e-20), cross.new_tensor([1.0, 0.0, 0.0]))
    R = torch.stack([tangent, torch.linalg.cross(normal, tangent), normal], dim=-1)
    return (a + b + c) / 3, R, twice_area.clamp_min(_TINY).sqrt()


def vertex_frames(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Frame of every vertex: R [V, 3, 3] (tangent, bitangent, smooth normal) and scale [V] m.

    The tangent is that of the vertex's first face, laid into the tangent plane; the scale is the mean
    of its faces' scales. A vertex without a face gets the identity and the mean scale of the mesh.
    """
    V, corners = len(vertices), faces.flatten()
    _, face_R, face_scale = face_frames(vertices, faces)
    face_of_corner = torch.arange(len(faces), device=faces.device).repeat_interleave(3)
    first = torch.full((V,), len(faces), device=faces.device)
    first = first.scatter_reduce(0, corners, face_of_corner, "amin")
    used = first < len(faces)
    normal = vertex_normals(vertices, faces)
    used &= normal.norm(dim=-1) > 0.5
    normal = torch.where(used[:, None], normal, normal.new_tensor([0.0, 0.0, 1.0]))
    tangent = torch.where(used[:, None], face_R[first.clamp_max(len(faces) - 1), :, 0], 0.0)
    tangent = tangent - (tangent * normal).sum(-1, keepdim=True) * normal
    # Parallel to the normal (a fold), or no face at all: any perpendicular, chosen by the normal alone.
    least = F.one_hot(normal.abs().argmin(-1), 3).to(normal)
    spare = torch.linalg.cross(normal, least)
    tangent = torch.where(tangent.norm(dim=-1, keepdim=True) > 1e-6, tangent, spare)
    tangent = F.normalize(tangent, dim=-1)
    total = face_scale.new_zeros(V).index_add(0, corners, face_scale.repeat_interleave(3))
    count = torch.bincount(corners, minlength=V)
    scale = torch.where(count > 0, total / count.clamp_min(1), face_scale.mean() if len(faces) else 1.0)
    return torch.stack([tangent, torch.linalg.cross(normal, tangent), normal], dim=-1), scale


def surface_points(vertices: Tensor, faces: Tensor, face_index: Tensor, barycentric: Tensor) -> Tensor:
    """Points [N, 3] m at barycentric positions on a mesh."""
    return (vertices[faces[face_index]] * barycentric[..., None]).sum(1)


def bind(
    gaussians: Gaussians,  # world, on the canonical mesh
    vertices: Tensor,  # [V, 3] m, canonical
    faces: Tensor,  # [F, 3]
    face_index: Tensor,  # [N]
    barycentric: Tensor,  # [N, 3]
) -> tuple[Gaussians, Binding]:
    """World Gaussians to local ones (means = local_offsets, quats and scales in the face frame)."""
    _, R, scale = (t[face_index] for t in face_frames(vertices, faces))
    shift = gaussians.means - surface_points(vertices, faces, face_index, barycentric)
    offsets = (R.transpose(1, 2) @ shift[..., None])[..., 0] / scale[:, None]
    local = replace(gaussians, means=offsets, **_scaled_and_turned(gaussians, R.transpose(1, 2), 1 / scale))
    return local, Binding(face_index, barycentric, offsets)


def unbind(local: Gaussians, binding: Binding, vertices: Tensor, faces: Tensor) -> Gaussians:
    """The inverse of `bind`: local Gaussians to the world of the canonical mesh."""
    _, R, scale = (t[binding.face_index] for t in face_frames(vertices, faces))
    shift = (R @ binding.local_offsets[..., None])[..., 0] * scale[:, None]
    means = surface_points(vertices, faces, binding.face_index, binding.barycentric) + shift
    return replace(local, means=means, **_scaled_and_turned(local, R, scale))


def bind_to_vertices(gaussians: Gaussians, vertices: Tensor, faces: Tensor) -> Gaussians:
    """One world Gaussian per vertex to local ones (means 0: the Gaussian is at its vertex)."""
    R, scale = vertex_frames(vertices, faces)
    turned = _scaled_and_turned(gaussians, R.transpose(1, 2), 1 / scale)
    return replace(gaussians, means=torch.zeros_like(vertices), **turned)


def unbind_from_vertices(local: Gaussians, vertices: Tensor, faces: Tensor) -> Gaussians:
    """The inverse of `bind_to_vertices`."""
    R, scale = vertex_frames(vertices, faces)
    return replace(local, means=vertices, **_scaled_and_turned(local, R, scale))


def _scaled_and_turned(gaussians: Gaussians, R: Tensor, scale: Tensor) -> dict[str, Tensor]:
    quats = quat_multiply(matrix_to_quat(R), F.normalize(gaussians.quats, dim=-1))
    return {"quats": quats, "scales": gaussians.scales * scale[:, None]}


def pose_gaussians(
    canonical: Gaussians,  # world, on the canonical mesh
    motion: SurfaceMotion,
    posed_vertices: Tensor,  # [V, 3] m
    corners: Tensor,  # [N, 3] int32, vertices of each Gaussian's face
    barycentric: Tensor,  # [N, 3]
    shift: Tensor | None,  # [N, 3] m, canonical mean minus its surface point; None: all zero
    *,
    backend: str = "auto",
) -> Gaussians:
    """Carry canonical Gaussians along with the surface. Rigid motion turns means and quats and leaves
    scales alone; the canonical pose gives back the input.

    A Gaussian turns with the blended rotation of its face's corners; each of its axes stretches as the
    surface does along it (shear across the axes is left out), the normal one by the root of the area.
    Differentiable to everything; native where nothing asks for a gradient.
    """
    inputs = [posed_vertices, canonical.means, canonical.quats, canonical.scales, barycentric]
    wants_grad = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
    if backend == "auto" and wants_grad:
        backend = "torch"
    if _backend.choose(backend, *inputs) == "native":
        stencil = (motion.offsets, motion.columns, motion.weights_t, motion.weights_b)
        surface = (*stencil, motion.frame, motion.products, motion.usable)
        means, quats, scales = gaussian_pose(
            posed_vertices, *surface, corners, barycentric, shift, canonical.quats, canonical.scales
        )
        return replace(canonical, means=means, quats=quats, scales=scales)
    return follow(canonical, motion.table(posed_vertices)[None], corners, barycentric, shift)[0]


def follow(
    canonical: Gaussians,  # world, on the canonical mesh
    tables: Tensor,  # [T, V, 13], of `SurfaceMotion.table`
    corners: Tensor,  # [N, 3] int32
    barycentric: Tensor,  # [N, 3]
    shift: Tensor | None,  # [N, 3] m
) -> list[Gaussians]:
    """`pose_gaussians` in plain torch for T poses at once, where it is known how the surface has moved."""
    # not embedding_bag, whose gradient sorts the corners
    rows = tables.index_select(1, corners.flatten()).unflatten(1, corners.shape)
    blended = (rows * barycentric[..., None]).sum(2)
    points, turn, stretch = blended.split([3, 4, 6], dim=-1)
    turn = F.normalize(turn, dim=-1)
    ratios = (axis_products(canonical.quats) @ stretch[..., None])[..., 0].clamp_min(1e-12).sqrt()
    means = points
    if shift is not None:
        size = (stretch[..., :3].sum(-1, keepdim=True) / 3).clamp_min(1e-12).sqrt()
        means = points + size * (quat_to_matrix(turn) @ shift[..., None])[..., 0]
    quats, scales = quat_multiply(turn, canonical.quats), canonical.scales * ratios
    posed = zip(means.unbind(), quats.unbind(), scales.unbind(), strict=True)
    return [replace(canonical, means=m, quats=q, scales=s) for m, q, s in posed]


def carriers(faces: Tensor, face_index: Tensor, barycentric: Tensor, V: int) -> tuple[Tensor, Tensor]:
    """corners [N + V, 3] int32 and weights [N + V, 3] of N Gaussians on faces and of one at each vertex,
    which has all weight on its vertex."""
    own = torch.arange(V, device=faces.device)
    corners = torch.cat([faces[face_index], own[:, None].expand(-1, 3)])
    weights = F.pad(torch.ones_like(own[:, None], dtype=barycentric.dtype), (0, 2))
    return corners.to(torch.int32).contiguous(), torch.cat([barycentric, weights]).contiguous()


def axis_products(quats: Tensor) -> Tensor:  # [N, 4] -> [N, 3, 6]
    """For each axis a of a Gaussian, the numbers whose product with a symmetric matrix (xx, yy, zz, xy,
    xz, yz) is a^T C a: the squared stretch along that axis."""
    a = quat_to_matrix(quats).transpose(1, 2)  # rows are the axes
    x, y, z = a.unbind(-1)
    return torch.stack([x * x, y * y, z * z, 2 * x * y, 2 * x * z, 2 * y * z], dim=-1)


@dataclass(frozen=True, eq=False)
class BoundGaussians:
    """An avatar's Gaussians with the canonical mesh that carries them.

    uv: N local Gaussians (means = local_offsets); binding: where they sit; vertex: V local Gaussians;
    vertices [V, 3] m, canonical; faces [F, 3].
    """

    uv: Gaussians
    binding: Binding
    vertex: Gaussians
    vertices: Tensor
    faces: Tensor

    @staticmethod
    def bind(
        uv: Gaussians,
        face_index: Tensor,
        barycentric: Tensor,
        vertex: Gaussians,
        vertices: Tensor,
        faces: Tensor,
    ) -> BoundGaussians:
        """From world Gaussians on the canonical mesh (both branches)."""
        local, binding = bind(uv, vertices, faces, face_index, barycentric)
        return BoundGaussians(local, binding, bind_to_vertices(vertex, vertices, faces), vertices, faces)

    @staticmethod
    def from_tensors(
        uv: Mapping[str, Tensor], vertex: Mapping[str, Tensor], vertices: Tensor, faces: Tensor
    ) -> BoundGaussians:
        """From the contents of uv.safetensors and vertex.safetensors, and the canonical mesh.

        Raises ValueError where the two do not belong together.
        """
        fields = ("quats", "scales", "opacities", "colors")
        binding = Binding(uv["face_index"].long(), uv["barycentric"], uv["local_offsets"])
        local = Gaussians(binding.local_offsets, *(uv[name] for name in fields))
        at_vertices = Gaussians(torch.zeros_like(vertices), *(vertex[name] for name in fields))
        if len(binding.face_index) and int(binding.face_index.max()) >= len(faces):
            raise ValueError(f"a Gaussian sits on face {int(binding.face_index.max())} of {len(faces)}")
        return BoundGaussians(local, binding, at_vertices, vertices, faces)

    def tensors(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """(uv, vertex): the contents of uv.safetensors and vertex.safetensors."""
        parts = []
        for gaussians in (self.uv, self.vertex):
            fields = ("quats", "scales", "opacities", "colors")
            parts.append({name: getattr(gaussians, name).contiguous() for name in fields})
        parts[0]["local_offsets"] = self.binding.local_offsets.contiguous()
        parts[0]["face_index"] = self.binding.face_index.to(torch.int32)
        parts[0]["barycentric"] = self.binding.barycentric.contiguous()
        return parts[0], parts[1]

    @cached_property
    def canonical(self) -> Gaussians:
        """World Gaussians on the canonical mesh: the N of the UV branch, then the V of the vertices."""
        uv = unbind(self.uv, self.binding, self.vertices, self.faces)
        return Gaussians.concatenate([uv, unbind_from_vertices(self.vertex, self.vertices, self.faces)])

    @cached_property
    def _prepared(self) -> tuple[SurfaceMotion, Tensor, Tensor, Tensor | None]:
        """What posing needs and never changes."""
        binding, shift = self.binding, None
        corners, barycentric = carriers(
            self.faces, binding.face_index, binding.barycentric, len(self.vertices)
        )
        if bool(binding.local_offsets.any()) or binding.local_offsets.requires_grad:
            points = (self.vertices[corners] * barycentric[..., None]).sum(1)
            shift = self.canonical.means - points
        return SurfaceMotion.between(self.vertices, self.faces), corners, barycentric, shift

    def pose(self, vertices: Tensor, faces: Tensor | None = None, *, backend: str = "auto") -> Gaussians:
        """World Gaussians on a posed mesh of the same topology, in the order of `canonical`.

        vertices [V, 3] m. faces, if given, must be the avatar's own.
        """
        if vertices.shape != self.vertices.shape:
            wanted, got = tuple(self.vertices.shape), tuple(vertices.shape)
            raise ValueError(f"vertices must be {wanted}, got {got}")
        if faces is not None and faces is not self.faces and not torch.equal(faces, self.faces):
            raise ValueError("faces differ from those the Gaussians are bound to")
        motion, corners, barycentric, shift = self._prepared
        everything = self.canonical
        return pose_gaussians(everything, motion, vertices, corners, barycentric, shift, backend=backend)
