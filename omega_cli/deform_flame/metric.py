"""The curvature of the objective as one sparse matrix: what makes every step a large one.

"Large Steps in Inverse Rendering" (Nicolet et al. 2021) preconditions with (I + λ L). We use the
objective's own Gauss-Newton curvature instead, with n nᵀ replaced by its bound I: the same scalar matrix
then serves x, y and z, one factorisation is enough, and the step cannot overshoot.

All that changes from step to step lies within single faces, so the pattern of H is fixed, and a step adds
up 9 numbers a face.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from omega_cli.deform_flame.factor import Factoriser, Pattern, factoriser
from omega_cli.deform_flame.linear import Surface
from omega_cli.deform_flame.objective import (
    FOLD_START,
    LANDMARK_SCALE,
    NORMAL_SCALE,
    OUTLINE_SCALE,
    UNIT,
    Lambdas,
    Landmarks,
    Problem,
    area_ratio,
    px_per_m,
    robust_weight,
)
from omega_cli.deform_flame.observe import Observation
from omega_cli.geometry.mesh import face_corners, face_cross, vertex_normals

EPSILON = 1e-6  # of the median diagonal entry: keeps vertices without any term solvable


class Metric:
    """Builds and solves H for a state of the mesh; the parts that never change are built once.

    Its unknowns are the free vertices, then the held ones; the two solve apart, as their gradients are apart.
    """

    def __init__(
        self,
        problem: Problem,
        lambdas: Lambdas,
        factorise: Callable[[Pattern], Factoriser] = factoriser,
    ) -> None:
        self.problem, self.lambdas = problem, lambdas
        semantics, L, faces = problem.semantics, problem.laplacian, problem.faces
        role = semantics.free.long() + 2 * semantics.held.long()
        free, held = (torch.nonzero(role == k).squeeze(1) for k in (1, 2))
        self.active = torch.cat([free, held])
        N = len(self.active)
        number = torch.zeros_like(role)
        number[self.active] = torch.arange(N, device=role.device)

        # Lᵀ diag(w) L, entry by entry
        first, second = L.pairs()
        i, j, row = L.column[first], L.column[second], L.row[first]
        product = L.value[first].double() * L.value[second].double() / UNIT**2
        smooth = torch.where(role[i] == 1, semantics.laplacian[row], 0.0) * product
        shape = torch.where(role[i] == 2, semantics.held[row], 0.0) * product
        bent = torch.nonzero((role[i] == role[j]) & (role[i] > 0)).squeeze(1)
        # and the nine products of a face's corners
        a, b = faces[:, :, None].expand(-1, 3, 3).reshape(-1), faces[:, None].expand(-1, 3, 3).reshape(-1)
        self._in_faces = torch.nonzero((role[a] == role[b]) & (role[a] > 0)).squeeze(1)
        rows = torch.cat([number[i[bent]], number[a[self._in_faces]], torch.arange(N, device=role.device)])
        columns = torch.cat([number[j[bent]], number[b[self._in_faces]], rows[-N:]])
        keys, slots = torch.unique(rows * N + columns, return_inverse=True)
        self._count = len(keys)
        at_bent, self._at_faces, self._diagonal = slots.split([len(bent), len(self._in_faces), N])
        self._smooth = smooth.new_zeros(self._count).index_add_(0, at_bent, smooth[bent])
        self._fixed = smooth.new_zeros(self._count).index_add_(0, at_bent, lambdas.par * shape[bent])
        place = lambdas.par / UNIT**2 * semantics.place[self.active].double()
        self._fixed.index_add_(0, self._diagonal, place)
        if (marks := problem.landmarks) is not None:
            share = torch.full_like(marks.weight, 4 / len(marks.weight) / UNIT**2)
            still = share.new_zeros(len(faces), 3, 3)
            add_squares(still, marks.on_mesh, lambdas.sym * lambdas.lmk * share)
            self._add_faces(self._fixed, still)
        self._factorise = factorise(Pattern(keys // N, keys % N, (len(free), len(held))))

    def entries(self, offsets: Tensor, posed: Tensor, seen: Observation, stiffness: float) -> Tensor:
        """Values [E] float64 of H; `stiffness` multiplies the Laplacian's weight."""
        lambdas = self.lambdas
        in_faces = lambdas.nml * self._normals(posed, seen)
        beyond = (seen.outline(posed) * seen.direction).sum(1) - seen.goal
        curvature = seen.outline_weight * robust_weight(beyond.square(), OUTLINE_SCALE)
        add_squares(in_faces, seen.outline, lambdas.sil / UNIT**2 * curvature)
        if (marks := self.problem.landmarks) is not None:
            add_squares(in_faces, marks.on_mesh, lambdas.lmk * self._landmarks(offsets, marks))
        values = self._fixed + stiffness * lambdas.lap * self._smooth
        self._add_faces(values, in_faces)
        values.index_add_(0, self._diagonal, lambdas.fold * self._folds(offsets)[self.active].double())
        ordered = values[self._diagonal].sort().values
        middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
        values.index_add_(0, self._diagonal, (EPSILON * middle).expand(len(self.active)))
        return 2 * values

    def solver(
        self, offsets: Tensor, posed: Tensor, seen: Observation, stiffness: float
    ) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """x = H⁻¹ g for gradients [V, 3], 0 where a vertex is neither free nor held; and `Factor.failed`."""
        factor = self._factorise(self.entries(offsets, posed, seen, stiffness))

        def solve(g: Tensor) -> Tensor:
            x = factor.solve(g.index_select(0, self.active).double())
            return torch.zeros_like(g).index_copy_(0, self.active, x.to(g))

        return solve, factor.failed

    def _add_faces(self, values: Tensor, in_faces: Tensor) -> None:
        picked = in_faces.reshape(-1).index_select(0, self._in_faces)
        values.index_add_(0, self._at_faces, picked.double())

    def _normals(self, posed: Tensor, seen: Observation) -> Tensor:
        """[F, 3, 3] c_f (∇φ_i . ∇φ_j): a normal turns by the gradient of the displacement along it."""
        faces = self.problem.faces
        normals = torch.nn.functional.normalize(seen.surface(vertex_normals(posed, faces)), dim=1)
        gap = (normals - seen.normal).square().sum(1)
        c = torch.zeros(len(faces), dtype=posed.dtype, device=posed.device)
        c.index_add_(0, seen.surface.face_index, seen.weight * robust_weight(gap, NORMAL_SCALE))
        corners = torch.stack(face_corners(posed, faces), dim=1)
        opposite = corners.roll(-2, 1) - corners.roll(-1, 1)  # [F, 3, 3] edge facing each corner
        double_area = face_cross(posed, faces).norm(dim=1)
        # a sliver's hat functions are arbitrarily steep; its share is bounded by its longest edge
        double_area = torch.maximum(double_area, 0.1 * opposite.square().sum(2).amax(1)).clamp_min(1e-12)
        return (opposite @ opposite.transpose(1, 2)) * (c / double_area**2)[:, None, None]

    def _landmarks(self, offsets: Tensor, marks: Landmarks) -> Tensor:
        """[68] curvature along the surface."""
        pixels, depth = marks.camera.project(
            marks.on_mesh(self.problem.to_photo(self.problem.canonical + offsets))
        )
        metres = (pixels - marks.points) / px_per_m(marks.camera, depth)[:, None]
        return marks.weight * robust_weight(metres.square().sum(1), LANDMARK_SCALE) / UNIT**2

    def _folds(self, offsets: Tensor) -> Tensor:
        """Diagonal bound [V] on the fold barrier's curvature, on the faces near to folding."""
        problem, faces = self.problem, self.problem.faces
        vertices = problem.canonical + offsets
        near = area_ratio(vertices, problem.planes, faces) < 2 * FOLD_START
        corners = torch.stack(face_corners(vertices, faces), dim=1)
        edge = (corners.roll(-2, 1) - corners.roll(-1, 1)).square().sum(2)  # [F, 3]
        # |plane| = 1 / |cross product of the rest face|
        bound = edge * (3 / FOLD_START**2 * near * problem.planes.square().sum(1))[:, None]
        return torch.zeros_like(vertices[:, 0]).index_add_(0, faces.reshape(-1), bound.reshape(-1))


def add_squares(in_faces: Tensor, points: Surface, weight: Tensor) -> None:
    """Add bᵀ weight b of each point to its face's [3, 3], in place."""
    b = points.barycentric
    in_faces.index_add_(0, points.face_index, (weight[:, None] * b)[:, :, None] * b[:, None, :])
