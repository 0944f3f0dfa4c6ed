"""How a surface turns and stretches at each vertex, from its canonical to a posed shape."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.geometry.mesh import face_corners, vertex_normals
from omega_cli.geometry.rotation import matrix_to_quat

_SMALL = 1e-12


@dataclass(frozen=True, eq=False)
class SurfaceMotion:
    """The fixed part of the measurement.

    offsets [V], columns [E], weights_t [E], weights_b [E]: for each vertex a row of neighbours with the
    weights that give, from posed vertices, the images of its two unit tangents. frame [V, 3, 3]:
    canonical tangent, tangent, normal (columns). products [V, 4, 6]: TT, TB + BT, BB and NN as symmetric
    matrices (xx, yy, zz, xy, xz, yz). usable [V]: vertices with a surface around them; the others
    never turn.
    """

    offsets: Tensor
    columns: Tensor
    weights_t: Tensor
    weights_b: Tensor
    frame: Tensor
    products: Tensor
    usable: Tensor

    @staticmethod
    def between(vertices: Tensor, faces: Tensor) -> SurfaceMotion:
        """Prepare for motions away from these canonical vertices [V, 3] of the mesh `faces` [F, 3]."""
        offsets, columns, weights_t, weights_b = _tangent_derivatives(vertices, faces)
        # The images of the two tangents at rest span the plane we call tangent. Recombining them to be
        # orthonormal makes the canonical pose exactly "no turn, no stretch".
        t = _gathered(vertices, offsets, columns, weights_t)
        b = _gathered(vertices, offsets, columns, weights_b)
        length = t.norm(dim=-1)
        usable = length > 1e-3
        along = torch.where(usable, (t * b).sum(-1) / length.square().clamp_min(_SMALL), 0.0)
        height = (b - along[:, None] * t).norm(dim=-1)
        usable &= height > 1e-3
        vertex = _vertex_of_entry(offsets, columns)
        weights_b = (weights_b - along[vertex] * weights_t) / height.clamp_min(1e-3)[vertex]
        weights_t = weights_t / length.clamp_min(1e-3)[vertex]
        t = _gathered(vertices, offsets, columns, weights_t)
        b = _gathered(vertices, offsets, columns, weights_b)
        eye = torch.eye(3).to(vertices)
        t, b = (torch.where(usable[:, None], v, eye[k]) for k, v in enumerate((t, b)))
        n = torch.linalg.cross(t, b)
        products = [_symmetric(t, t), 2 * _symmetric(t, b), _symmetric(b, b), _symmetric(n, n)]
        products = torch.stack(products, dim=1)
        frame = torch.stack([t, b, n], dim=-1)
        return SurfaceMotion(offsets, columns, weights_t, weights_b, frame, products, usable)

    def measure(self, posed: Tensor) -> Tensor:  # [V, 3] m -> [V, 10]
        """Rotation (quaternion wxyz, neighbours never of opposite sign) and squared stretch (symmetric,
        xx, yy, zz, xy, xz, yz, in canonical axes) of the surface at each vertex.

        The rotation turns the old normal into the new one and, within the tangent plane, is the polar
        one: no direction is preferred under shear. The normal stretches by the root of the area's ratio.
        """
        rows, weights, eye, rest = self._constants
        parts = posed.index_select(0, self.columns)[:, None] * weights
        u, v = posed.new_zeros(len(posed), 2, 3).index_add(0, rows, parts).unbind(1)
        normal = torch.linalg.cross(u, v)
        area = normal.norm(dim=-1, keepdim=True)
        usable = self.usable[:, None] & (area > 1e-9)
        n = normal / area.clamp_min(1e-9)
        # The rotation closest to the tangent map, in the plane: for columns (a, b), (c, d) it is that of
        # (a + d, b - c), and (d, -c) is v turned back by a right angle.
        t = F.normalize(u + torch.linalg.cross(v, n), dim=-1, eps=1e-20)
        frame = torch.stack([t, torch.linalg.cross(n, t), n], dim=-1)
        R = torch.where(usable[..., None], frame @ self.frame.transpose(1, 2), eye)
        squares = torch.stack([u * u, u * v, v * v], dim=1).sum(-1)
        coefficients = torch.where(usable, torch.cat([squares, area], dim=1), rest)
        stretch = (coefficients[:, None] @ self.products)[:, 0]
        return torch.cat([_one_hemisphere(matrix_to_quat(R), usable), stretch], dim=1)

    def table(self, posed: Tensor) -> Tensor:  # [V, 3] m -> [V, 13]
        """Where each vertex has gone, and how the surface has turned and stretched there."""
        return torch.cat([posed, self.measure(posed)], dim=1)

    @cached_property
    def _constants(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The vertex [E] and both weights [E, 2, 1] of each entry; rotation and coefficients at rest."""
        weights = torch.stack([self.weights_t, self.weights_b], dim=1)[..., None]
        return (
            _vertex_of_entry(self.offsets, self.columns),
            weights,
            torch.eye(3).to(weights),
            torch.tensor([1.0, 0.0, 1.0, 1.0]).to(weights),
        )


def _vertex_of_entry(offsets: Tensor, columns: Tensor) -> Tensor:  # [V], [E] -> [E]
    entry = torch.arange(len(columns), device=columns.device)
    return torch.bucketize(entry, offsets, right=True) - 1


def _one_hemisphere(quats: Tensor, usable: Tensor) -> Tensor:  # [V, 4], [V, 1]
    """Signs chosen so that all agree with their mean: q and -q are one rotation, but blend to nothing."""
    with torch.no_grad():
        counted = quats.detach() * usable
        moment = counted.T @ counted  # its main axis is the mean rotation, whatever the signs
        moment = moment / moment.norm().clamp_min(_SMALL)  # the largest eigenvalue is then 1/2 or more
        for _ in range(5):  # to the 32nd power: an eigen solver would wait for the device
            moment = moment @ moment
        axis = moment.index_select(1, moment.diagonal().argmax()[None])
        sign = torch.where(quats @ axis < 0, -1.0, 1.0).to(quats)
    return quats * sign


def _symmetric(a: Tensor, b: Tensor) -> Tensor:  # [V, 3] x 2 -> [V, 6], (a b^T + b a^T) / 2
    (ax, ay, az), (bx, by, bz) = a.unbind(-1), b.unbind(-1)
    off = (ax * by + ay * bx) / 2, (ax * bz + az * bx) / 2, (ay * bz + az * by) / 2
    return torch.stack([ax * bx, ay * by, az * bz, *off], -1)


def _gathered(values: Tensor, offsets: Tensor, columns: Tensor, weights: Tensor) -> Tensor:
    """One weighted sum of rows of `values` [V, 3] for each row of a stencil."""
    if len(columns) == 0:
        return torch.zeros_like(values)
    return F.embedding_bag(columns, values, offsets, mode="sum", per_sample_weights=weights)


def _tangent_derivatives(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The stencil (offsets [V], columns [E], weights [E] twice) that gives, for any map of the vertices to
    space, its derivative along two tangents of each vertex: the area-weighted mean over its faces.
    """
    V = len(vertices)
    a, b, c = face_corners(vertices, faces)
    e1, e2 = b - a, c - a
    twice_area = torch.linalg.cross(e1, e2).norm(dim=-1)
    g11, g12, g22 = (e1 * e1).sum(-1), (e1 * e2).sum(-1), (e2 * e2).sum(-1)
    det = g11 * g22 - g12 * g12
    healthy = det > 1e-6 * g11 * g22  # a sliver says nothing about directions
    det = torch.where(healthy, det, 1.0)
    # rows of the pseudo-inverse of [e1 e2]: coordinates of a tangent vector in the face's edges
    d1 = (g22[:, None] * e1 - g12[:, None] * e2) / det[:, None]
    d2 = (g11[:, None] * e2 - g12[:, None] * e1) / det[:, None]
    corner = faces.flatten()
    weight = torch.where(healthy, twice_area, 0.0).repeat_interleave(3)
    total = weight.new_zeros(V).index_add(0, corner, weight)
    weight = weight / total.clamp_min(_SMALL)[corner]
    normal = vertex_normals(vertices, faces)
    normal = torch.where(normal.norm(dim=-1, keepdim=True) > 0.5, normal, normal.new_tensor([0.0, 0.0, 1.0]))
    least = F.one_hot(normal.abs().argmin(-1), 3).to(normal)
    tangent = F.normalize(torch.linalg.cross(normal, least), dim=-1)
    d1, d2, face = (t.repeat_interleave(3, 0) for t in (d1, d2, faces))
    weights = []
    for direction in (tangent, torch.linalg.cross(normal, tangent)):
        x, y = (d1 * direction[corner]).sum(-1), (d2 * direction[corner]).sum(-1)
        weights.append(torch.stack([-x - y, x, y], 1) * weight[:, None])  # [3F, 3], corners of the face
    # Neighbours met in several faces are summed into one entry; entries come sorted by vertex.
    pairs = (corner[:, None] * V + face).flatten()
    unique, place = torch.unique(pairs, return_inverse=True)
    rows, columns = unique // max(V, 1), unique % max(V, 1)
    summed = [weight.new_zeros(len(unique)).index_add(0, place, w.flatten()) for w in weights]
    offsets = torch.searchsorted(rows, torch.arange(V, device=faces.device))
    return offsets, columns, summed[0], summed[1]
