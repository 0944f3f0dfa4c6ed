"""The head model seen through its landmarks alone: small linear maps that a solver can afford every frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from omega_cli.head.model import HeadModel

_PER_POINT = ("points", "shape", "expression", "eye", "jaw_weight")


@dataclass(frozen=True)
class PointBasis:
    """L surface points as functions of identity and expression, in the root joint's frame (float64).

    Rest position of point l: points[l] + shape[l] @ betas + expression[l] @ ψ, metres from the root joint.
    eye [L]: 0 or 1 where the point rides on the left or right eyeball, else -1. eye_points [2, 3] and
    eye_shape [2, 3, S]: the eyes' centres. root [3], root_shape [3, S]: the root joint in the world.
    jaw_weight [L]: LBS weight of the jaw; jaw_point [3], jaw_shape [3, S]: its joint.
    """

    points: np.ndarray  # [L, 3]
    shape: np.ndarray  # [L, 3, S]
    expression: np.ndarray  # [L, 3, E]
    eye: np.ndarray  # [L] int
    eye_points: np.ndarray  # [2, 3]
    eye_shape: np.ndarray  # [2, 3, S]
    jaw_weight: np.ndarray  # [L]
    jaw_point: np.ndarray  # [3]
    jaw_shape: np.ndarray  # [3, S]
    root: np.ndarray  # [3]
    root_shape: np.ndarray  # [3, S]

    @property
    def S(self) -> int:
        return self.shape.shape[2]

    @property
    def E(self) -> int:
        return self.expression.shape[2]

    def __len__(self) -> int:
        return len(self.points)

    def take(self, index: np.ndarray) -> PointBasis:
        """Only the points at `index` (integers or bool)."""
        return replace(self, **{name: getattr(self, name)[index] for name in _PER_POINT})

    def with_betas(self, betas: np.ndarray) -> PointBasis:
        """The same points of one person: betas [S] folded in, no identity left to vary (S = 0)."""
        empty = np.zeros((len(self), 3, 0))
        return PointBasis(
            self.points + self.shape @ betas, empty, self.expression, self.eye,
            self.eye_points + self.eye_shape @ betas, empty[:2], self.jaw_weight,
            self.jaw_point + self.jaw_shape @ betas, empty[0],
            self.root + self.root_shape @ betas, empty[0],
        )  # fmt: skip


def point_basis(model: HeadModel, corners: np.ndarray, barycentric: np.ndarray) -> PointBasis:
    """Basis of the points at corners [L, 3] (vertex indices) with barycentric [L, 3]."""

    def array(tensor) -> np.ndarray:
        return tensor.detach().cpu().numpy()

    def picked(values) -> np.ndarray:  # [V, ...] -> [L, ...]
        return np.einsum("lk,lk...->l...", barycentric, array(values)[corners].astype(np.float64))

    template, regressor = array(model.v_template).astype(np.float64), array(model.J_regressor)
    joints = regressor.astype(np.float64) @ template
    used = np.flatnonzero(np.abs(regressor).sum(0) > 0)
    directions = array(model.shapedirs)[used].astype(np.float64)
    joint_shape = np.einsum("jv,vcs->jcs", regressor[:, used].astype(np.float64), directions)
    weights = picked(model.weights)
    eye = np.where(weights[:, 3] > 0.5, 0, np.where(weights[:, 4] > 0.5, 1, -1))
    return PointBasis(
        points=picked(model.v_template) - joints[0],
        shape=picked(model.shapedirs) - joint_shape[0],
        expression=picked(model.exprdirs),
        eye=eye,
        eye_points=joints[3:5] - joints[0],
        eye_shape=joint_shape[3:5] - joint_shape[0],
        jaw_weight=np.where(eye < 0, weights[:, 2], 0.0),
        jaw_point=joints[2] - joints[0],
        jaw_shape=joint_shape[2] - joint_shape[0],
        root=joints[0],
        root_shape=joint_shape[0],
    )


def landmark_basis(model: HeadModel, name: str) -> tuple[PointBasis, np.ndarray]:
    """Basis of the landmark set `name`, and its valid [L] bool."""
    embedding = model.landmarks[name]
    corners = model.faces[embedding.face_index].cpu().numpy()
    basis = point_basis(model, corners, embedding.barycentric.cpu().numpy().astype(np.float64))
    return basis, embedding.valid.cpu().numpy()


def vertex_basis(model: HeadModel, vertices: np.ndarray) -> PointBasis:
    """Basis of single vertices [L] (indices)."""
    corners = np.repeat(vertices[:, None], 3, axis=1)
    return point_basis(model, corners, np.tile([1.0, 0.0, 0.0], (len(vertices), 1)))


def joined(first: PointBasis, second: PointBasis) -> PointBasis:
    """Both sets of points as one; joints are the first's."""
    both = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in _PER_POINT}
    return replace(first, **both)
