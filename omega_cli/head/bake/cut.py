"""Our own cut of the body: head and neck down to a short bust, sockets opened, scalp refined."""

# pyright: reportArgumentType=false, reportOptionalSubscript=false, reportIndexIssue=false
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportAttributeAccessIssue=false
# (scipy's own stubs mistype sparse algebra)

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl

from omega_cli.head.bake.halfmesh import (
    LinearMesh,
    flip_to_delaunay,
    mirror_half,
    refine,
    slice_mesh,
    triangulate,
)
from omega_cli.head.bake.source import METRES, Source

# The bust's edge: an ellipsoid about the head (metres, source frame: x 0 = middle). It passes the notch of
# the breastbone, the trapezius a hand's breadth from the neck, and the seventh vertebra.
BUST_CENTRE = np.array([0.0, 0.690, 0.012])
BUST_RADII = np.array([0.128, 0.172, 0.172])
SCALP_EDGE = 0.0075  # m: longer scalp edges are split
SKIN_EDGE = 0.0140  # m: longer edges elsewhere on the outer skin
SOCKET_RINGS = 2  # rings of triangles kept behind the lid margin


@dataclass(frozen=True)
class SkinCut:
    """The skin as a linear mesh, its mirror permutation, and named masks [V] carried from the source."""

    mesh: LinearMesh
    mirror: np.ndarray
    masks: dict[str, np.ndarray]
    rim: np.ndarray  # idx of the bust's edge


def eye_sphere(source: Source, positions: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre [3] and radius of the left eyeball by a least-squares sphere."""
    p = positions[np.unique(source.quads["helper-l-eye"])]
    x = np.linalg.lstsq(np.c_[2 * p, np.ones(len(p))], (p**2).sum(1), rcond=None)[0]
    return x[:3], float(np.sqrt(x[3] + x[:3] @ x[:3]))


def scalp_field(p: np.ndarray) -> np.ndarray:
    """[V, 3] m, source frame -> signed field, > 0 on the hair-bearing scalp: an egg-shaped hairline.

    From the front: the forehead's hairline, down before the ear, behind the ear, low on the nape.
    """
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    front = (y - 0.792) * 1.0 - (z - 0.118) * 0.9 - np.clip(x - 0.045, 0, None) * 0.15
    side = np.clip(0.060 - z, None, 0.03) * 1.0 + np.clip(y - 0.742, -0.02, None) * 0.55
    nape = (y - 0.655) - np.clip(z + 0.02, 0, None) * 1.2
    return np.minimum(np.maximum(front, np.minimum(side, y - 0.700)), nape)


def _socket_faces(half: np.ndarray, positions: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """Triangles [F] bool that line the eye socket: near the ball and facing its centre."""
    p = positions[half]
    normal = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
    out = p.mean(1) - centre
    return ((normal * out).sum(1) < 0) & (np.linalg.norm(out, axis=1) < 1.25 * radius)


def _open_socket(faces: np.ndarray, socket: np.ndarray) -> np.ndarray:
    """Keep SOCKET_RINGS rings of the socket's lining behind the lid margin."""
    keep = ~socket
    for _ in range(SOCKET_RINGS):
        near = np.zeros(faces.max() + 1, bool)
        near[faces[keep]] = True
        keep |= socket & near[faces].any(1)
    return faces[keep]


def _refine(
    half: LinearMesh, rest: np.ndarray, hair: np.ndarray, cavity: np.ndarray
) -> tuple[LinearMesh, np.ndarray]:
    """Split long edges until none is left. Returns the mesh and which vertices are old."""
    old = half.operator.shape[0]
    while True:
        positions = METRES * (half.operator @ rest)
        hairy = (half.operator @ hair) > 0
        inner = (half.operator @ cavity) > 0.5
        f = half.faces
        pairs = np.sort(np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]]), axis=1)
        pairs = np.unique(pairs, axis=0)
        length = np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1)
        scalp, skin = hairy[pairs].any(1), ~inner[pairs].any(1)
        long = (scalp & (length > SCALP_EDGE)) | (skin & (length > SKIN_EDGE))
        marked = {(int(i), int(j)) for i, j in pairs[long]}
        if not marked:
            return half, np.arange(half.operator.shape[0]) < old
        faces, ends = refine(f, len(positions), marked, positions)
        rows = sp.csr_matrix(
            (np.full(2 * len(ends), 0.5), (np.repeat(np.arange(len(ends)), 2), ends.ravel())),
            shape=(len(ends), len(positions)),
        )
        half = half.with_vertices(rows, faces)
        positions = METRES * (half.operator @ rest)
        allowed = half.operator @ hair > 0
        half = LinearMesh(half.operator, flip_to_delaunay(half.faces, positions, allowed))


def cotangent_laplacian(vertices: np.ndarray, faces: np.ndarray) -> sp.csr_matrix:
    """[V, V], rows sum to 0, positive diagonal; cotangents are clipped so that weights stay positive."""
    i, j, w = [], [], []
    for k in range(3):
        a, b, c = faces[:, k], faces[:, (k + 1) % 3], faces[:, (k + 2) % 3]
        u, v = vertices[b] - vertices[a], vertices[c] - vertices[a]
        cot = (u * v).sum(1) / np.maximum(np.linalg.norm(np.cross(u, v), axis=1), 1e-14)
        w.append(np.clip(cot, 0.05, 20) / 2)
        i.append(b)
        j.append(c)
    i, j, w = np.concatenate(i), np.concatenate(j), np.concatenate(w)
    n = len(vertices)
    A = sp.coo_matrix((np.r_[w, w], (np.r_[i, j], np.r_[j, i])), shape=(n, n)).tocsr()
    return sp.diags(np.asarray(A.sum(1)).ravel()) - A


def _smooth_new(mesh: LinearMesh, rest: np.ndarray, old: np.ndarray) -> LinearMesh:
    """Place new vertices on the thin-plate surface through the old ones (a linear rule, so every target
    is refined alike) instead of leaving them on the old flat triangles."""
    positions = mesh.operator @ rest
    L = cotangent_laplacian(positions, mesh.faces)
    mass = np.asarray(np.abs(L).sum(1)).ravel() / 2
    energy = (L.T @ sp.diags(1 / mass) @ L).tocsr()
    new = np.flatnonzero(~old)
    known = np.flatnonzero(old)
    solve = spl.factorized(energy[new][:, new].tocsc())
    right = -(energy[new][:, known] @ mesh.operator[known]).tocsc()
    touched = np.flatnonzero(np.diff(right.indptr))
    block = np.stack([solve(right[:, c].toarray().ravel()) for c in touched], axis=1)
    block[np.abs(block) < 1e-7] = 0
    block /= block.sum(1, keepdims=True)  # an affine rule: translations stay translations
    rows = sp.lil_matrix((len(new), mesh.operator.shape[1]))
    rows[:, touched] = block
    operator = mesh.operator.tolil()
    operator[new] = rows
    return LinearMesh(operator.tocsr(), mesh.faces)


def cut_skin(source: Source) -> SkinCut:
    """Body -> left half -> slice, open the socket, refine -> mirror -> smooth."""
    rest = source.young_mean()
    metres = METRES * rest
    quads = source.quads["body"]
    left = quads[(metres[quads][:, :, 0] > -1e-7).all(1) & (metres[quads][:, :, 1] > 0.45).all(1)]
    faces = triangulate(left, metres)
    centre, radius = eye_sphere(source, metres)
    faces = _open_socket(faces, _socket_faces(faces, metres, centre, radius))
    half = LinearMesh(sp.eye(len(rest), format="csr"), faces).compact()
    p = half.operator @ metres
    inside = 1 - (((p - BUST_CENTRE) / BUST_RADII) ** 2).sum(1)
    half, rim = slice_mesh(half, np.where(p[:, 1] > BUST_CENTRE[1], 1.0, inside))
    hair = scalp_field(metres)
    hair[source.mask("ears") > 0.3] = -0.01
    cavity = source.mask("inside-mouth")
    hair[cavity > 0.3] = -0.01
    half, old = _refine(half, rest, hair, cavity)
    middle = np.abs((half.operator @ metres)[:, 0]) < 1e-9
    mesh, mirror = mirror_half(half, source.mirror, middle)
    old = np.concatenate([old, old[~middle]])
    rim_mask = np.zeros(len(middle), bool)
    rim_mask[rim] = True
    mesh = _smooth_new(mesh, rest, old)
    masks = {
        name: mesh.operator @ source.mask(name)
        for name in ("lips", "inside-mouth", "ears", "eyelids", "face")
    }
    masks["hair"] = scalp_field(mesh.operator @ metres)
    return SkinCut(mesh, mirror, masks, np.flatnonzero(np.concatenate([rim_mask, rim_mask[~middle]])))
