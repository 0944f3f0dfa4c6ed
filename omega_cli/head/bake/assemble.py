"""Puts the parts together: geometry, bases, joints, weights."""

# pyright: reportArgumentType=false, reportOptionalSubscript=false, reportIndexIssue=false
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportAttributeAccessIssue=false
# (scipy's own stubs mistype sparse algebra)

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from omega_cli.head.arkit import ARKIT_NAMES, mirror_permutation
from omega_cli.head.bake import rig
from omega_cli.head.bake.cut import cut_skin
from omega_cli.head.bake.halfmesh import LinearMesh
from omega_cli.head.bake.parts import build_parts
from omega_cli.head.bake.population import identity_basis, sample_people
from omega_cli.head.bake.source import METRES, Source

COMPONENTS = 120

# Where the source's parts sit a little wrong (m): its incisors end above the upper lip's edge, so that an
# opening mouth shows none, its tongue fills the mouth, and the shortened lashes dip into the lids.
NUDGE = {
    "upper_lash": (0.0, 0.0, 0.0006), "lower_lash": (0.0, -0.0002, 0.0007),
    "upper_teeth": (0.0, -0.0030, 0.0018), "lower_teeth": (0.0, -0.0008, 0.0010),
    "tongue": (0.0, -0.0040, -0.0020),
}  # fmt: skip


@dataclass
class Head:
    """Everything known about the head while it is baked; arrays as in HeadModel, metres, head frame."""

    operator: sp.csr_matrix  # [V, N] vertex = combination of source vertices
    faces: np.ndarray  # [F, 3]
    mirror: np.ndarray  # [V]
    part: np.ndarray  # [V] index into part_names
    part_names: tuple[str, ...]
    masks: dict[str, np.ndarray]  # [V] painted values, 0 off the skin
    rim: np.ndarray  # [V] bool
    origin: np.ndarray  # [V] weights of the ear canals
    mean: np.ndarray  # [V, 3]
    shapedirs: np.ndarray  # [V, 3, S]
    variance_kept: np.ndarray  # [S] cumulative
    exprdirs: np.ndarray  # [V, 3, E]

    def of(self, *names: str) -> np.ndarray:  # [V] bool
        """Vertices of the named parts."""
        return np.isin(self.part, [self.part_names.index(name) for name in names])


def _ear_canals(v: np.ndarray, faces: np.ndarray, ears: np.ndarray) -> np.ndarray:
    """[V] weights of the point midway between the canals: the concha's deepest outward-facing vertices."""
    normal = np.zeros_like(v)
    cross = np.cross(v[faces[:, 1]] - v[faces[:, 0]], v[faces[:, 2]] - v[faces[:, 0]])
    for k in range(3):
        np.add.at(normal, faces[:, k], cross)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    weights = np.zeros(len(v))
    for side in (1, -1):
        x = side * v[:, 0]
        found = np.flatnonzero((ears > 0.3) & (x > 0) & (side * normal[:, 0] > 0.6))
        found = found[np.argsort(x[found], kind="stable")[:6]]
        weights[found] = 0.5 / len(found)
    return weights


def seen_vertices(source: Source, operator: sp.csr_matrix, outside: np.ndarray) -> np.ndarray:
    """Idx of the source vertices on the head's outside; outside [V] bool: the head's own there."""
    rest = source.young_mean()
    used = np.asarray(np.abs(operator[outside]).sum(0)).ravel() > 0.4
    top = METRES * (operator @ rest)[outside, 1].max()
    return np.flatnonzero(used & (METRES * rest[:, 1] > top - 0.22))


def assemble(source: Source) -> Head:
    rest = source.young_mean()
    skin = cut_skin(source)
    parts = [("skin", skin.mesh, skin.mirror), *build_parts(source, skin.mesh.operator @ rest)]
    operators, faces, mirror, part = [], [], [], []
    count = 0
    for k, (_, mesh, own_mirror) in enumerate(parts):
        operators.append(mesh.operator)
        faces.append(mesh.faces + count)
        mirror.append(own_mirror + count)
        part.append(np.full(mesh.operator.shape[0], k))
        count += mesh.operator.shape[0]
    whole = LinearMesh(sp.vstack(operators).tocsr(), np.concatenate(faces))
    mirror_index = np.concatenate(mirror)
    V, n = count, skin.mesh.operator.shape[0]
    masks = {
        name: np.concatenate([m, np.full(V - n, m.min().clip(None, 0))]) for name, m in skin.masks.items()
    }
    rim = np.isin(np.arange(V), skin.rim)
    placed = METRES * (whole.operator @ rest)
    origin = _ear_canals(placed, whole.faces, masks["ears"])

    seen = seen_vertices(source, whole.operator, (masks["inside-mouth"] < 0.3) & (np.arange(V) < n))
    people = sample_people(source, seen)
    mean, shapedirs, kept = identity_basis(source, people, whole.operator, mirror_index, origin, COMPONENTS)
    exprdirs = np.stack([METRES * (whole.operator @ source.expression(name)) for name in ARKIT_NAMES], axis=2)
    # hand-drawn: a shape and its twin differ by up to 2 mm; the mean of the two is exactly symmetric
    twins = exprdirs[mirror_index][:, :, mirror_permutation()] * np.array([-1.0, 1.0, 1.0])[:, None]
    exprdirs = (exprdirs + twins) / 2
    names = tuple(name for name, _, _ in parts)
    head = Head(
        whole.operator, whole.faces, mirror_index, np.concatenate(part), names, masks, rim, origin,
        mean, shapedirs, kept, exprdirs,
    )  # fmt: skip
    for name, shift in NUDGE.items():
        head.mean[head.of(name)] += shift
    exprdirs[head.of("eye")] = (
        0  # the ball turns about its joint (leye_pose, reye_pose), the lids follow the shape
    )
    return head


def joints_and_weights(head: Head) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rest joints [5, 3], J_regressor [5, V], skinning weights [V, 5]."""
    v, V = head.mean, len(head.mean)
    skin = head.of("skin")
    jaw_open = head.exprdirs[:, :, ARKIT_NAMES.index("jawOpen")]
    travel = np.linalg.norm(jaw_open, axis=1)
    chin = skin & (travel > 0.9 * travel.max())
    jaw_joint, jaw = rig.jaw_rig(v, jaw_open, chin)
    eyes = np.flatnonzero(head.of("eye"))
    left, right = eyes[v[eyes, 0] > 0], eyes[v[eyes, 0] < 0]

    cavity = head.masks["inside-mouth"] > 0.5
    outer = skin & ~cavity & (head.masks["ears"] < 0.3)
    neck_ring = np.flatnonzero(outer & (np.abs(v[:, 1] - rig.NECK_JOINT[1]) < 0.03) & (v[:, 2] < 0.06))
    root_ring = np.flatnonzero(outer & (np.abs(v[:, 1] - rig.ROOT_JOINT[1]) < 0.03))
    # an eye's centre is the mean of its ball's bounding rings: affine weights give it exactly
    supports = [
        (root_ring, rig.ROOT_JOINT),
        (neck_ring, rig.NECK_JOINT),
        (np.flatnonzero(outer & (np.linalg.norm(v - jaw_joint * [0, 1, 1], axis=1) < 0.085)), jaw_joint),
        (left, _centre(v[left])),
        (right, _centre(v[right])),
    ]
    regressor = np.zeros((5, V))
    for j, (support, point) in enumerate(supports):
        regressor[j, support] = rig.affine_weights(v[support], point)
    # symmetric in exact arithmetic: keep it so in floats
    twin = regressor[[0, 1, 2, 4, 3]][:, head.mirror]
    regressor = (regressor + twin) / 2
    joints = regressor @ v

    # Head (neck joint) weight: 0 at the bust's edge, 1 on the head, harmonic down the neck.
    below = -0.030 - 0.55 * (v[:, 2] - 0.03).clip(0, None)  # falls towards the chin
    head_fixed = (v[:, 1] > below) | ~skin | cavity
    near_rim = skin & (_distance_to(v, v[head.rim]) < 0.018)
    fixed = head_fixed | near_rim
    turn = rig.harmonic(v, head.faces, fixed, np.where(near_rim, 0.0, 1.0))
    turn = rig.smooth(head.faces, turn, 4)
    turn[~skin | cavity] = 1
    turn = turn * turn * (3 - 2 * turn)
    jaw[head.of("lower_teeth")] = 1.0
    jaw[head.of("upper_teeth", "eye", "upper_lash", "lower_lash")] = 0
    soft = rig.smooth(head.faces, jaw, 6)
    jaw = np.where(skin, soft, jaw)
    jaw[skin & (head.masks["hair"] > 0) | (head.masks["ears"] > 0.3)] = 0
    jaw = np.minimum(jaw, turn)
    weights = np.zeros((V, 5))
    weights[left, 3] = weights[right, 4] = 1
    body = ~head.of("eye")
    weights[body, 2] = jaw[body]
    weights[body, 1] = (turn - jaw)[body]
    weights[body, 0] = 1 - turn[body]
    weights = (weights + weights[head.mirror][:, [0, 1, 2, 4, 3]]) / 2
    weights[weights < 1e-5] = 0
    return joints, regressor, weights / weights.sum(1, keepdims=True)


def _centre(ball: np.ndarray) -> np.ndarray:
    x = np.linalg.lstsq(np.c_[2 * ball, np.ones(len(ball))], (ball**2).sum(1), rcond=None)[0]
    return x[:3]


def _distance_to(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return np.sqrt(((points[:, None] - targets[None]) ** 2).sum(-1)).min(1)
