"""Joints, their regressor and the skinning weights of the open head (metres, head frame)."""

# pyright: reportArgumentType=false, reportOptionalSubscript=false, reportIndexIssue=false
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportAttributeAccessIssue=false
# (scipy's own stubs mistype sparse algebra)

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl

from omega_cli.head.bake.cut import cotangent_laplacian

# Pivots relative to the ear canals (m). Ours: the neck bends about the second vertebra, the bust's root is
# the first thoracic one.
NECK_JOINT = np.array([0.0, -0.030, -0.012])
ROOT_JOINT = np.array([0.0, -0.130, -0.025])
PARENTS = (-1, 0, 1, 1, 1)


def affine_weights(support: np.ndarray, point: np.ndarray) -> np.ndarray:  # [n, 3], [3] -> [n]
    """The smallest weights that sum to 1 and whose combination of the support is the point."""
    A = np.c_[support, np.ones(len(support))].T
    return np.linalg.pinv(A) @ np.append(point, 1.0)


def hinge(points: np.ndarray, moved: np.ndarray) -> tuple[np.ndarray, float]:
    """Best rotation about an axis parallel to x: its point (y, z) and angle (rad), least squares."""
    p, q = points[:, 1:], moved[:, 1:]
    pc, qc = p.mean(0), q.mean(0)
    a, b = p - pc, q - qc
    angle = np.arctan2((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum(), (a * b).sum())
    R = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = np.linalg.solve(np.eye(2) - R, qc - R @ pc)
    return centre, float(angle)


def jaw_rig(vertices: np.ndarray, jaw_open: np.ndarray, chin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Jaw joint [3] and raw weights [V] in [0, 1], both read off the jawOpen shape.

    chin: [V] bool, vertices that open rigidly. A vertex's weight is the part of its jawOpen motion that the
    fitted hinge explains, so turning jaw_pose by the fitted angle looks like jawOpen.
    """
    centre, angle = hinge(vertices[chin], vertices[chin] + jaw_open[chin])
    joint = np.array([0.0, *centre])
    c, s = np.cos(angle), np.sin(angle)
    R = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    swing = (vertices - joint) @ R.T + joint - vertices
    weight = (swing * jaw_open).sum(1) / np.maximum((swing**2).sum(1), 1e-8)
    return joint, np.clip(weight, 0, 1)


def harmonic(vertices: np.ndarray, faces: np.ndarray, fixed: np.ndarray, value: np.ndarray) -> np.ndarray:
    """[V] smooth function with the given values where fixed [V] bool, harmonic elsewhere."""
    L = cotangent_laplacian(vertices, faces).tocsr()
    free = ~fixed
    out = value.astype(float).copy()
    out[free] = spl.spsolve(L[free][:, free].tocsc(), -(L[free][:, fixed] @ value[fixed]))
    return out.clip(0, 1)


def smooth(faces: np.ndarray, values: np.ndarray, rounds: int) -> np.ndarray:
    """Average with the neighbours, `rounds` times."""
    n = len(values)
    i = np.concatenate([faces[:, [0, 1, 2]].ravel(), faces[:, [1, 2, 0]].ravel()])
    j = np.concatenate([faces[:, [1, 2, 0]].ravel(), faces[:, [0, 1, 2]].ravel()])
    A = sp.coo_matrix((np.ones(len(i)), (i, j)), shape=(n, n)).tocsr()
    A = sp.diags(1 / np.maximum(np.asarray(A.sum(1)).ravel(), 1)) @ A
    for _ in range(rounds):
        values = 0.5 * values + 0.5 * (A @ values)
    return values
