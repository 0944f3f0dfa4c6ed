"""The loose parts inside and around the skin: eyeballs (our own spheres), teeth, tongue, lashes."""

# pyright: reportArgumentType=false, reportOptionalSubscript=false, reportIndexIssue=false
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportAttributeAccessIssue=false
# (scipy's own stubs mistype sparse algebra)

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.spatial import cKDTree

from omega_cli.head.bake.cut import eye_sphere
from omega_cli.head.bake.halfmesh import LinearMesh, mirror_half, triangulate
from omega_cli.head.bake.source import METRES, Source

# Rings of the eyeball by angle from the gaze axis (degrees): dense about pupil, iris and limbus.
EYE_RINGS_DEG = (5.0, 9.0, 10.0, 16.0, 21.0, 23.0, 30.0, 40.0, 54.0, 72.0, 95.0, 122.0, 150.0)
EYE_SEGMENTS = 24
PUPIL_DEG, IRIS_DEG = 9.5, 22.0  # the source's eyeball is 31 mm wide: 22 degrees is an iris of 11.6 mm
LASH_LENGTH = 0.45  # of the source's


def eye_faces() -> np.ndarray:
    """Triangles of one eyeball; vertex 0 is the front pole, then the rings, last the back pole."""
    n, rings = EYE_SEGMENTS, len(EYE_RINGS_DEG)
    faces = []
    for k in range(n):
        k1 = (k + 1) % n
        faces.append([0, 1 + k, 1 + k1])
        for r in range(rings - 1):
            a, b = 1 + r * n + k, 1 + r * n + k1
            faces += [[a, a + n, b + n], [a, b + n, b]]
        last = 1 + (rings - 1) * n
        faces.append([last + k, 1 + rings * n, last + k1])
    return np.array(faces)


def eye_angles() -> np.ndarray:  # [Ve, 2]: angle from the gaze axis, angle about it, rad
    theta = np.radians([0.0, *np.repeat(EYE_RINGS_DEG, EYE_SEGMENTS), 180.0])
    phi = np.concatenate(
        [[0.0], np.tile(np.arange(EYE_SEGMENTS) * 2 * np.pi / EYE_SEGMENTS, len(EYE_RINGS_DEG)), [0.0]]
    )
    return np.stack([theta, phi], axis=1)


def left_eye(source: Source) -> LinearMesh:
    """A sphere fitted to the source's 72-vertex ball and moved by the best affine map of it, which is a
    linear rule for every target."""
    rest = source.young_mean()
    helper = np.unique(source.quads["helper-l-eye"])
    h = METRES * rest[helper]
    centre, radius = eye_sphere(source, METRES * rest)
    theta, phi = eye_angles().T
    d = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=1)
    p = centre + radius * d
    mean = h.mean(0)
    spread = np.linalg.inv((h - mean).T @ (h - mean))
    weights = 1 / len(h) + (p - mean) @ spread @ (h - mean).T
    rows = sp.lil_matrix((len(p), len(rest)))
    rows[:, helper] = weights
    return LinearMesh(rows.tocsr(), eye_faces())


def _group(source: Source, name: str, left_only: bool) -> LinearMesh:
    rest = source.young_mean()
    quads = source.quads[name]
    if left_only:
        quads = quads[(rest[quads][:, :, 0] > -1e-6).all(1)]
    faces = triangulate(quads, rest)
    return LinearMesh(sp.eye(len(rest), format="csr"), faces).compact()


def _short_lash(lash: LinearMesh, rest: np.ndarray, skin: np.ndarray) -> LinearMesh:
    """Pull the lash strip towards its root row (the vertices that touch the lid)."""
    p = lash.operator @ rest
    distance, _ = cKDTree(skin).query(p)
    root = np.flatnonzero(distance < np.quantile(distance, 0.3))
    nearest = root[cKDTree(p[root]).query(p)[1]]
    n = len(p)
    pull = LASH_LENGTH * sp.eye(n) + (1 - LASH_LENGTH) * sp.csr_matrix(
        (np.ones(n), (np.arange(n), nearest)), (n, n)
    )
    return LinearMesh((pull @ lash.operator).tocsr(), lash.faces)


def build_parts(source: Source, skin: np.ndarray) -> list[tuple[str, LinearMesh, np.ndarray]]:
    """(name, mesh, mirror within the pair) of every loose part. skin: rest skin vertices [V, 3] dm.

    Paired parts ("eye", "upper_lash", "lower_lash") hold the left one first, then the right one.
    """
    rest = source.young_mean()
    out = []
    pairs = {
        "eye": left_eye(source),
        "upper_lash": _short_lash(_group(source, "helper-l-eyelashes-2", False), rest, skin),
        "lower_lash": _short_lash(_group(source, "helper-l-eyelashes-1", False), rest, skin),
    }
    for name, half in pairs.items():
        none = np.zeros(half.operator.shape[0], bool)
        out.append((name, *mirror_half(half, source.mirror, none)))
    for name in ("upper-teeth", "lower-teeth", "tongue"):
        half = _group(source, f"helper-{name}", True)
        middle = np.abs((half.operator @ rest)[:, 0]) < 1e-6
        out.append((name.replace("-", "_"), *mirror_half(half, source.mirror, middle)))
    return out
