"""The curvature of the objective as one sparse matrix: what makes every step a large one.

"Large Steps in Inverse Rendering" (Nicolet et al. 2021) preconditions with (I + λ L). We use the
objective's own Gauss-Newton curvature instead, with n nᵀ replaced by its bound I: the same scalar matrix
then serves x, y and z, one factorisation of [V, V] is enough, and the step cannot overshoot.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch
from torch import Tensor

from omega_cli.deform_flame.objective import (
    FOLD_START,
    LANDMARK_SCALE,
    NORMAL_SCALE,
    OUTLINE_SCALE,
    UNIT,
    Lambdas,
    Problem,
    area_ratio,
    px_per_m,
    robust_weight,
)
from omega_cli.deform_flame.observe import Observation, Surface
from omega_cli.geometry.mesh import face_corners, face_cross, vertex_normals

EPSILON = 1e-6  # of the median diagonal entry: keeps vertices without any term solvable


class Metric:
    """Builds H [V, V] for a state of the mesh; the parts that never change are built once."""

    def __init__(self, problem: Problem, lambdas: Lambdas) -> None:
        self.problem, self.lambdas = problem, lambdas
        semantics, V = problem.semantics, problem.canonical.shape[0]
        L = to_scipy(problem.laplacian)
        held = semantics.held.cpu().numpy().astype(float)
        w = semantics.laplacian.double().cpu().numpy()
        free = semantics.free.cpu().numpy()
        loose = L @ sp.diags(free.astype(float))
        self.smooth = (loose.T @ sp.diags(w / UNIT**2) @ loose).tocsr()
        inside = L @ sp.diags(held)
        shape = inside.T @ sp.diags(held / UNIT**2) @ inside
        fixed = lambdas.par * (shape + sp.diags(semantics.place.double().cpu().numpy() / UNIT**2))
        if problem.landmarks is not None:
            marks = problem.landmarks.on_mesh
            share = torch.full((len(marks.corners),), 4 / len(marks.corners) / UNIT**2)
            fixed = fixed + lambdas.sym * lambdas.lmk * weighted_square(marks, share, V)
        self.fixed = fixed.tocsr()
        self.role = np.where(free, 1, np.where(held > 0, 2, 0))

    def solver(
        self, offsets: Tensor, posed: Tensor, seen: Observation, stiffness: float
    ) -> Callable[[np.ndarray], np.ndarray]:
        """x = H^-1 g for gradients [V, 3]; `stiffness` multiplies the Laplacian's weight."""
        problem, lambdas = self.problem, self.lambdas
        V = problem.canonical.shape[0]
        H = self.fixed + (stiffness * lambdas.lap) * self.smooth + lambdas.nml * self._normals(posed, seen)
        beyond = (seen.outline(posed) * seen.direction).sum(1) - seen.goal
        curvature = seen.outline_weight * robust_weight(beyond.square(), OUTLINE_SCALE) / UNIT**2
        H = H + lambdas.sil * weighted_square(seen.outline, curvature, V)
        if problem.landmarks is not None:
            H = H + lambdas.lmk * self._landmarks(offsets)
        H = H + sp.diags(lambdas.fold * self._folds(offsets))
        H = self._uncouple((2 * H).tocoo())
        factor = spla.splu(
            H, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
        )
        return lambda g: factor.solve(g)

    def _normals(self, posed: Tensor, seen: Observation) -> sp.csr_matrix:
        """Σ_f c_f (∇φ_i . ∇φ_j): a normal turns by the gradient of the displacement along it."""
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
        k = (opposite @ opposite.transpose(1, 2)) * (c / double_area**2)[:, None, None]
        i = faces[:, :, None].expand(-1, 3, 3).reshape(-1).cpu().numpy()
        j = faces[:, None, :].expand(-1, 3, 3).reshape(-1).cpu().numpy()
        V = posed.shape[0]
        return sp.csr_matrix((k.reshape(-1).double().cpu().numpy(), (i, j)), (V, V))

    def _landmarks(self, offsets: Tensor) -> sp.csr_matrix:
        marks = self.problem.landmarks
        assert marks is not None
        pixels, depth = marks.camera.project(
            marks.on_mesh(self.problem.to_photo(self.problem.canonical + offsets))
        )
        metres = (pixels - marks.points) / px_per_m(marks.camera, depth)[:, None]
        weight = marks.weight * robust_weight(metres.square().sum(1), LANDMARK_SCALE) / UNIT**2
        return weighted_square(marks.on_mesh, weight, offsets.shape[0])

    def _folds(self, offsets: Tensor) -> np.ndarray:
        """Diagonal bound on the fold barrier's curvature, on the faces near to folding."""
        rest, faces = self.problem.canonical, self.problem.faces
        near = area_ratio(rest + offsets, rest, faces) < 2 * FOLD_START
        f = faces[near]
        area = face_cross(rest, f).norm(dim=1).clamp_min(1e-12)
        corners = torch.stack(face_corners(rest + offsets, f), dim=1)
        edge = (corners.roll(-2, 1) - corners.roll(-1, 1)).square().sum(2)  # [N, 3]
        out = torch.zeros(len(rest), dtype=rest.dtype, device=rest.device)
        out.index_add_(0, f.reshape(-1), (3 * edge / (area[:, None] * FOLD_START) ** 2).reshape(-1))
        return out.double().cpu().numpy()

    def _uncouple(self, H: sp.coo_matrix) -> sp.csc_matrix:
        """Free and held vertices solve apart, as their gradients are apart; the rest gets the identity."""
        same = (self.role[H.row] == self.role[H.col]) & (self.role[H.row] > 0)
        diagonal = H.diagonal()
        scale = float(np.median(diagonal[self.role > 0]))
        rest = np.where(self.role > 0, EPSILON * scale, 1.0)
        kept = sp.csc_matrix((H.data[same], (H.row[same], H.col[same])), H.shape)
        return (kept + sp.diags(rest)).tocsc()


def to_scipy(L: Tensor) -> sp.csr_matrix:
    """A torch sparse matrix as scipy float64."""
    L = L.cpu()
    L = L.to_sparse_coo().coalesce() if L.layout != torch.sparse_coo else L.coalesce()
    rows, columns = L.indices().numpy()
    return sp.csr_matrix((L.values().double().numpy(), (rows, columns)), tuple(L.shape))


def matrix(points: Surface, V: int) -> sp.csr_matrix:
    """[P, V]: row p holds the barycentric weights of point p."""
    P = points.corners.shape[0]
    rows = np.repeat(np.arange(P), 3)
    columns = points.corners.reshape(-1).cpu().numpy()
    return sp.csr_matrix((points.barycentric.reshape(-1).double().cpu().numpy(), (rows, columns)), (P, V))


def weighted_square(points: Surface, weight: Tensor, V: int) -> sp.csr_matrix:
    """Bᵀ diag(weight) B [V, V] of points on faces."""
    B = matrix(points, V)
    return B.T @ sp.diags(weight.double().cpu().numpy()) @ B
