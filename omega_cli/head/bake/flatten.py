"""Injective flattening of a disc onto a rectangle: Tutte's embedding, then distortion descent.

The descent is scaled local-global (Rabinovich et al. 2017: the symmetric Dirichlet energy with reweighted
quadratic proxies, and a line search that never crosses a flip), so every triangle keeps its orientation.
"""

# pyright: reportArgumentType=false, reportOptionalSubscript=false, reportIndexIssue=false
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportAttributeAccessIssue=false
# (scipy's own stubs mistype sparse algebra)

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl


def boundary_loops(faces: np.ndarray) -> list[list[int]]:
    """Closed loops of boundary vertices, each in face order (interior on the left), longest first."""
    directed = {(int(a), int(b)) for f in faces for a, b in zip(f, np.roll(f, -1), strict=True)}
    following = {a: b for a, b in sorted(directed) if (b, a) not in directed}
    loops = []
    while following:
        start = min(following)
        loop, at = [], start
        while at in following:
            loop.append(at)
            at = following.pop(at)
        loops.append(loop)
    return sorted(loops, key=len, reverse=True)


def fill_loop(faces: np.ndarray, loop: list[int], centre: int) -> np.ndarray:
    """Triangles that close a hole with a fan about the new vertex `centre`."""
    return np.array([[b, a, centre] for a, b in zip(loop, [*loop[1:], loop[0]], strict=True)])


def tutte(faces: np.ndarray, fixed: np.ndarray, place: np.ndarray) -> np.ndarray:
    """[V, 2]: fixed [V] bool vertices at `place`, the others at the mean of their neighbours."""
    n = len(fixed)
    i = np.concatenate([faces.ravel(), np.roll(faces, -1, 1).ravel()])
    j = np.concatenate([np.roll(faces, -1, 1).ravel(), faces.ravel()])
    A = sp.coo_matrix((np.ones(len(i)), (i, j)), shape=(n, n)).tocsr()
    A.data[:] = 1
    L = (sp.diags(np.asarray(A.sum(1)).ravel()) - A).tocsr()
    uv = place.astype(float).copy()
    free = ~fixed
    solve = spl.factorized(L[free][:, free].tocsc())
    right = -(L[free][:, fixed] @ place[fixed])
    uv[free] = np.stack([solve(right[:, k]) for k in range(2)], axis=1)
    return uv


def _local_shapes(vertices: np.ndarray, faces: np.ndarray, density: np.ndarray) -> np.ndarray:
    """[F, 2, 2] edge vectors (columns) of each triangle laid flat, scaled so that areas follow density."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    u, v = b - a, c - a
    length = np.maximum(np.linalg.norm(u, axis=1), 1e-9)
    x = (u * v).sum(1) / length
    y = np.maximum(np.linalg.norm(np.cross(u, v), axis=1) / length, 0.03 * length)  # slivers stay usable
    D = np.zeros((len(faces), 2, 2))
    D[:, 0, 0], D[:, 0, 1], D[:, 1, 1] = length, x, y
    return D * np.sqrt(density)[:, None, None]


def _edges2(uv: np.ndarray, faces: np.ndarray) -> np.ndarray:  # [F, 2, 2] columns
    a = uv[faces[:, 0]]
    return np.stack([uv[faces[:, 1]] - a, uv[faces[:, 2]] - a], axis=2)


def _energy(J: np.ndarray, weight: np.ndarray) -> float:
    determinant = np.linalg.det(J)
    if (determinant <= 0).any():
        return np.inf
    squares = (J**2).sum((1, 2))
    return float((weight * (squares + squares / determinant**2)).sum())


def _first_flip(uv: np.ndarray, step: np.ndarray, faces: np.ndarray) -> float:
    """The largest step before some triangle's signed area reaches zero."""
    E, G = _edges2(uv, faces), _edges2(step, faces)
    c = np.linalg.det(E)
    a = np.linalg.det(G)
    b = E[:, 0, 0] * G[:, 1, 1] + G[:, 0, 0] * E[:, 1, 1] - E[:, 0, 1] * G[:, 1, 0] - G[:, 0, 1] * E[:, 1, 0]
    root = np.sqrt(np.maximum(b * b - 4 * a * c, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        q = -0.5 * (b + np.where(b >= 0, root, -root))
        times = np.stack([q / a, c / q])
    times = np.where((b * b - 4 * a * c >= 0) & np.isfinite(times) & (times > 0), times, np.inf)
    return float(times.min())


def descend(
    uv: np.ndarray,  # [V, 2] injective start
    free: np.ndarray,  # [V, 2] bool: coordinates that may move
    vertices: np.ndarray,  # [V, 3]
    faces: np.ndarray,
    density: np.ndarray,  # [F] wanted uv area per surface area
    importance: np.ndarray,  # [F] extra weight of a triangle's distortion
    rounds: int,
) -> np.ndarray:
    """Lower the area-weighted symmetric Dirichlet energy; orientation is kept, free boundaries slide."""
    shapes = _local_shapes(vertices, faces, density)
    inverse = np.linalg.inv(shapes)
    weight = np.linalg.det(shapes) / 2 * importance
    V = len(uv)
    # J = E inverse: each row of J is a combination of the three corners' coordinates
    B = np.concatenate([-inverse.sum(1, keepdims=True), inverse], axis=1)  # [F, 3, 2]
    unknown = np.flatnonzero(free.T.ravel())  # u block, then v block
    for _ in range(rounds):
        J = _edges2(uv, faces) @ inverse
        U, s, Vt = np.linalg.svd(J)
        s = np.maximum(s, 1e-6)
        near = np.abs(s - 1) < 1e-4
        w2 = np.where(near, 4.0, (s - s**-3.0) / np.where(near, 1, s - 1))
        W2 = U @ (w2[:, :, None] * U.transpose(0, 2, 1)) * weight[:, None, None]  # [F, 2, 2]
        R = U @ Vt
        # energy sum tr((J - R)^T W2 (J - R)); J_ab = sum_c B_cb x_ca
        H = np.einsum("fab,fcd,fed->fcaeb", W2, B, B)
        g = np.einsum("fab,fbd,fcd->fca", W2, R, B)
        index = faces[:, :, None] + np.array([0, V])[None, None]  # [F, 3, 2]
        rows = np.broadcast_to(index[:, :, :, None, None], H.shape).ravel()
        columns = np.broadcast_to(index[:, None, None], H.shape).ravel()
        M = sp.coo_matrix((H.ravel(), (rows, columns)), shape=(2 * V, 2 * V)).tocsr()
        rhs = np.bincount(index.ravel(), weights=g.ravel(), minlength=2 * V)
        x = uv.T.ravel()
        residual = rhs - M @ x
        block = M[unknown][:, unknown] + 1e-9 * sp.eye(len(unknown)) * M.diagonal().mean()
        step = np.zeros(2 * V)
        step[unknown] = spl.spsolve(block.tocsc(), residual[unknown], permc_spec="MMD_AT_PLUS_A")
        step = step.reshape(2, V).T
        before = _energy(J, weight)
        t = min(1.0, 0.8 * _first_flip(uv, step, faces))
        while t > 1e-9:
            candidate = uv + t * step
            after = _energy(_edges2(candidate, faces) @ inverse, weight)
            if after < before:
                break
            t /= 2
        else:
            return uv
        uv = candidate
        if before - after < 1e-6 * before:
            break
    return uv


def spread_on_side(lengths: np.ndarray) -> np.ndarray:
    """Cumulative share [n + 1] in [0, 1] of n segment lengths."""
    total = np.concatenate([[0.0], np.cumsum(lengths)])
    return total / total[-1]


def flatten_part(vertices: np.ndarray, faces: np.ndarray, aspect: float, rounds: int = 40) -> np.ndarray:
    """[V, 2] in [0, 1]²: a small disc onto a rectangle of width:height = aspect.

    The sides bulge outwards by a few percent, so that triangles with all corners on one side stay
    open. The loop's start is the one that distorts least.
    """
    loop = boundary_loops(faces)[0]
    where = vertices[loop]
    lengths = np.linalg.norm(np.roll(where, -1, 0) - where, axis=1)
    t = np.concatenate([[0], np.cumsum(lengths)[:-1]]) / lengths.sum()
    perimeter = 2 * (aspect + 1)
    best: tuple[float, np.ndarray] | None = None
    fixed = np.zeros(len(vertices), bool)
    fixed[loop] = True
    density = np.full(len(faces), aspect / max(_area(vertices, faces), 1e-12))
    for shift in np.arange(0, 1, 1 / 12):
        place = np.zeros((len(vertices), 2))
        place[loop] = _bulged((t + shift) % 1 * perimeter, aspect)
        uv = tutte(faces, fixed, place)
        if (np.linalg.det(_edges2(uv, faces)) <= 0).any():
            continue
        uv = descend(
            uv, np.repeat(~fixed[:, None], 2, 1), vertices, faces, density, np.ones(len(faces)), rounds
        )
        shapes = _local_shapes(vertices, faces, density)
        energy = _energy(_edges2(uv, faces) @ np.linalg.inv(shapes), np.linalg.det(shapes))
        if best is None or energy < best[0]:
            best = (energy, uv)
    if best is None:
        raise ValueError("this part cannot be flattened: it is no disc")
    uv = best[1]
    return (uv - uv.min(0)) / np.ptp(uv, axis=0)


def _area(vertices: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def _bulged(s: np.ndarray, aspect: float) -> np.ndarray:
    """Points at arc position s on an aspect x 1 rectangle, counter-clockwise, with bulging sides."""
    bounds = np.array([0, aspect, aspect + 1, 2 * aspect + 1, 2 * aspect + 2])
    side = (np.searchsorted(bounds, s, side="right") - 1).clip(0, 3)
    x = (s - bounds[side]) / (bounds[side + 1] - bounds[side])
    swell = 0.12 * x * (1 - x)
    corner = np.array([[0, 0], [aspect, 0], [aspect, 1], [0, 1]], float)
    along = np.roll(corner, -1, 0) - corner
    outward = np.stack([along[:, 1], -along[:, 0]], axis=1)
    outward = outward / np.linalg.norm(outward, axis=1, keepdims=True)
    return corner[side] + x[:, None] * along[side] + swell[:, None] * outward[side]
