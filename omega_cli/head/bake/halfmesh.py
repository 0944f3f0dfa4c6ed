"""Editing a triangle mesh whose vertices are linear combinations of source vertices.

Only the left half (x >= 0) is edited and then mirrored, so the result is exactly symmetric.
"""

# pyright: reportArgumentType=false, reportOptionalSubscript=false, reportIndexIssue=false
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportAttributeAccessIssue=false
# (scipy's own stubs mistype sparse algebra)

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp


@dataclass(frozen=True)
class LinearMesh:
    """faces [F, 3]; operator [V, N] sparse: vertex = combination of the source's N vertices."""

    operator: sp.csr_matrix
    faces: np.ndarray

    def compact(self) -> LinearMesh:
        """Drop the vertices that no face uses (order kept)."""
        used = np.unique(self.faces)
        new = np.full(self.operator.shape[0], -1)
        new[used] = np.arange(len(used))
        return LinearMesh(self.operator[used].tocsr(), new[self.faces])

    def with_vertices(self, rows: sp.spmatrix, faces: np.ndarray) -> LinearMesh:
        """Append rows given as combinations of this mesh's vertices; replace the faces."""
        operator = sp.vstack([self.operator, rows @ self.operator]).tocsr()
        return LinearMesh(operator, faces)


def triangulate(quads: np.ndarray, positions: np.ndarray) -> np.ndarray:  # [Q, 4] -> [2Q, 3]
    """Split every quad along its shorter diagonal (ties: corner 0 to 2)."""
    p = positions[quads]
    first = np.linalg.norm(p[:, 0] - p[:, 2], axis=1) <= np.linalg.norm(p[:, 1] - p[:, 3], axis=1) * (
        1 + 1e-9
    )
    a = np.where(first[:, None], quads[:, [0, 1, 2]], quads[:, [1, 2, 3]])
    b = np.where(first[:, None], quads[:, [0, 2, 3]], quads[:, [1, 3, 0]])
    return np.concatenate([a, b])


def slice_mesh(mesh: LinearMesh, value: np.ndarray, snap: float = 0.3) -> tuple[LinearMesh, np.ndarray]:
    """Keep value >= 0 (value: [V], linear between vertices). Also returns the new rim's vertex idx.

    A kept vertex closer than `snap` of an edge to the rim is moved onto it rather than leaving slivers.
    """
    faces, inside = mesh.faces, value >= 0
    e = np.unique(
        np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1), axis=0
    )
    e = e[inside[e[:, 0]] != inside[e[:, 1]]]
    e = np.where(inside[e[:, :1]], e, e[:, ::-1])  # kept end first
    t = value[e[:, 0]] / (value[e[:, 0]] - value[e[:, 1]])
    V = len(value)
    move = sp.eye(V, format="lil")
    snapped: set[int] = set()
    for k in np.argsort(t, kind="stable"):
        i, j = int(e[k, 0]), int(e[k, 1])
        if t[k] < snap and i not in snapped:
            move[i, i], move[i, j] = 1 - t[k], t[k]
            snapped.add(i)
    rows: list[tuple[int, int, float]] = []
    cut: dict[tuple[int, int], int] = {}
    for (i, j), s in zip(e.tolist(), t, strict=True):
        if i not in snapped:
            cut[i, j] = V + len(rows)
            rows.append((i, j, float(s)))
    on = np.zeros(V, bool)
    on[list(snapped)] = True
    kept = []
    for face in faces:
        ring: list[int] = []
        for i, j in zip(face.tolist(), np.roll(face, -1).tolist(), strict=True):
            if inside[i]:
                ring.append(i)
            if inside[i] != inside[j]:
                new = cut.get((i, j) if inside[i] else (j, i))
                if new is not None:
                    ring.append(new)
        solid = [i for i in ring if i < V and not on[i]]
        if len(ring) >= 3 and solid:
            kept += [[ring[0], ring[k], ring[k + 1]] for k in range(1, len(ring) - 1)]
    extra = sp.lil_matrix((len(rows), V))
    for r, (i, j, s) in enumerate(rows):
        extra[r, i], extra[r, j] = 1 - s, s
    # the moved vertices must not disturb rows that are cut on edges of their unmoved selves
    operator = sp.vstack([move.tocsr() @ mesh.operator, extra.tocsr() @ mesh.operator]).tocsr()
    rim = np.concatenate([np.flatnonzero(on), np.arange(V, V + len(rows))])
    used = np.unique(np.array(kept))
    new = np.full(operator.shape[0], -1)
    new[used] = np.arange(len(used))
    return LinearMesh(operator, np.array(kept)).compact(), new[np.intersect1d(rim, used)]


def refine(faces: np.ndarray, vertex_count: int, marked: set[tuple[int, int]], positions: np.ndarray):
    """Split the marked edges (i < j) at their middle and their triangles conformingly.

    Returns (faces, ends [M, 2] of the new vertices, which are numbered from vertex_count on).
    """
    order = sorted(marked)
    middle = {edge: vertex_count + k for k, edge in enumerate(order)}
    ends = np.array(order, dtype=int).reshape(-1, 2)
    where = np.concatenate([positions, positions[ends].mean(1)]) if len(ends) else positions

    def length(i: int, j: int) -> float:
        return float(np.linalg.norm(where[i] - where[j]))

    out: list[list[int]] = []
    for face in faces.tolist():
        m = [middle.get((min(i, j), max(i, j))) for i, j in zip(face, face[1:] + face[:1], strict=True)]
        count = sum(x is not None for x in m)
        if count == 0:
            out.append(face)
            continue
        while (count == 1 and m[0] is None) or (count == 2 and m[2] is not None):  # rotate to a standard case
            face, m = face[1:] + face[:1], m[1:] + m[:1]
        a, b, c = face
        ab, bc, ca = (-1 if x is None else x for x in m)
        if count == 1:
            out += [[a, ab, c], [ab, b, c]]
        elif count == 2:  # ab and bc are split
            out.append([ab, b, bc])
            if length(a, bc) <= length(ab, c):
                out += [[a, ab, bc], [a, bc, c]]
            else:
                out += [[a, ab, c], [ab, bc, c]]
        else:
            out += [[a, ab, ca], [ab, b, bc], [ca, bc, c], [ab, bc, ca]]
    return np.array(out), ends


def flip_to_delaunay(faces: np.ndarray, positions: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Flip inner edges whose two opposite angles sum to more than 180 degrees; `allowed` [V] bool: both
    ends and both opposite corners must be allowed. Keeps faces outward."""
    faces = faces.copy()

    def angle(o: int, a: int, b: int) -> float:
        u, v = positions[a] - positions[o], positions[b] - positions[o]
        return float(np.arccos(np.clip(u @ v / max(np.linalg.norm(u) * np.linalg.norm(v), 1e-30), -1, 1)))

    for _ in range(20):
        owner: dict[tuple[int, int], int] = {}
        for f, (a, b, c) in enumerate(faces.tolist()):
            owner[a, b] = owner[b, c] = owner[c, a] = f
        touched: set[int] = set()
        flips = 0
        for (i, j), f in list(owner.items()):
            if i > j or (j, i) not in owner:
                continue
            g = owner[j, i]
            if f in touched or g in touched:
                continue
            k = int(faces[f].sum() - i - j)
            m = int(faces[g].sum() - i - j)
            if not allowed[[i, j, k, m]].all() or (k, m) in owner or (m, k) in owner:
                continue
            before = angle(k, i, j) + angle(m, i, j)
            n1 = np.cross(positions[i] - positions[k], positions[m] - positions[k])
            n2 = np.cross(positions[j] - positions[m], positions[k] - positions[m])
            if before > np.pi + 1e-3 and n1 @ n2 > 0:
                faces[f], faces[g] = [k, i, m], [m, j, k]
                touched |= {f, g}
                flips += 1
        if not flips:
            break
    return faces


def mirror_half(
    half: LinearMesh, source_mirror: np.ndarray, middle: np.ndarray
) -> tuple[LinearMesh, np.ndarray]:
    """Add the right half. middle [V] bool: vertices on the symmetry plane, shared by both halves.

    Returns the whole mesh and mirror_index [V'].
    """
    V = half.operator.shape[0]
    sides = np.flatnonzero(~middle)
    twin = np.arange(V)
    twin[sides] = V + np.arange(len(sides))
    permuted = half.operator[:, source_mirror]  # row i combines the mirrored source vertices
    whole = sp.vstack([half.operator, permuted[sides]]).tocsr()
    faces = np.concatenate([half.faces, twin[half.faces][:, ::-1]])
    mirror = np.concatenate([twin, sides])
    return LinearMesh(whole, faces), mirror
