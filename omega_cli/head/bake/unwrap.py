"""The UV layout: one continuous island for all skin, a strip below it for what lies inside the head.

The skin is cut along the middle of the back, from the bust's edge to the crown; the left half is flattened
onto half of a rectangle and mirrored, so the layout is exactly symmetric: (u, v) <-> (1 - u, v). Mouth cavity
and the lining of the eye sockets stay attached, with little room; face and scalp get most of it.
"""

from __future__ import annotations

import numpy as np

from omega_cli.head.bake.assemble import Head
from omega_cli.head.bake.flatten import (
    boundary_loops,
    descend,
    fill_loop,
    flatten_part,
    spread_on_side,
    tutte,
)
from omega_cli.head.bake.parts import EYE_RINGS_DEG, EYE_SEGMENTS, eye_faces
from omega_cli.head.bake.rig import smooth

SKIN_BOTTOM = 0.894  # v of the bust's edge
STRIP = (0.900, 1.0)  # v of the strip of inner parts
GAP = 0.005  # between islands: 1.3 texels of a 256 map
CROWN = np.array([0.0, 0.118, -0.030])  # the seam starts at the midline vertex nearest to this (m)

# Wanted share of the square for each region, in order of precedence (ours).
SHARES = {
    "mouth_inside": 0.008, "ears": 0.040, "boundary": 0.022, "eye_region": 0.044, "lips": 0.017,
    "nose": 0.024, "face": 0.240, "scalp": 0.328, "neck": 0.155,
}  # fmt: skip
SHARE_ROUNDS = 3  # the wanted densities are corrected by what came out
EYE_HOLE = 0.0015
IMPORTANCE = {"face": 2.5, "lips": 3.0, "eye_region": 3.0, "mouth_inside": 0.15, "boundary": 0.3}


def unwrap(head: Head, named: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """uvs [Vt, 2] (origin top left) and uv_faces [F, 3] in the order of head.faces."""
    charts = [_skin_chart(head, named), *_strip_charts(head)]
    uv_faces = np.full_like(head.faces, -1)
    uvs: list[np.ndarray] = []
    count = 0
    for face_idx, corners, uv in charts:  # corners [n, 3] into uv [k, 2]
        uv_faces[face_idx] = corners + count
        uvs.append(uv)
        count += len(uv)
        twin_idx = _mirrored_faces(head, face_idx)
        uv_faces[twin_idx] = _reorder(head, face_idx, twin_idx, corners) + count
        uvs.append(uv * [-1, 1] + [1, 0])
        count += len(uv)
    return _welded(head, np.concatenate(uvs).clip(0, 1), uv_faces)


def _mirrored_faces(head: Head, face_idx: np.ndarray) -> np.ndarray:
    table = {tuple(sorted(f)): k for k, f in enumerate(head.faces.tolist())}
    return np.array([table[tuple(sorted(f))] for f in head.mirror[head.faces[face_idx]].tolist()])


def _reorder(head: Head, face_idx: np.ndarray, twin_idx: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """uv corners of the mirrored faces, in the order in which those faces list their vertices."""
    mirrored = head.mirror[head.faces[face_idx]]
    order = (head.faces[twin_idx][:, :, None] == mirrored[:, None, :]).argmax(2)
    return np.take_along_axis(corners, order, 1)


def _welded(head: Head, uvs: np.ndarray, uv_faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge uv corners that belong to one mesh vertex and one place (the two halves at the front line)."""
    key = np.concatenate(
        [head.faces.reshape(-1, 1), np.round(uvs[uv_faces.ravel()] * 1e7).astype(np.int64)], axis=1
    )
    _, first, inverse = np.unique(key, axis=0, return_index=True, return_inverse=True)
    return uvs[uv_faces.ravel()[first]], inverse.reshape(-1, 3)


def _left_half(head: Head, part: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Faces idx of the left half of some vertices, the vertices used, and the faces in local idx."""
    inside = part & (head.mean[:, 0] > -1e-9)
    face_idx = np.flatnonzero(inside[head.faces].all(1))
    used, local = np.unique(head.faces[face_idx], return_inverse=True)
    return face_idx, used, local.reshape(-1, 3)


def _skin_chart(head: Head, named: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    face_idx, used, faces = _left_half(head, head.of("skin"))
    v = head.mean[used]
    loops = boundary_loops(faces)
    outline = loops[0]
    holes = loops[1:]
    middle = np.abs(v[:, 0]) < 1e-9
    rim = head.rim[used]
    all_faces, all_v = [faces], [v]
    for k, loop in enumerate(holes):
        all_faces.append(fill_loop(faces, loop, len(v) + k))
        all_v.append(v[loop].mean(0, keepdims=True))
    points, closed = np.concatenate(all_v), np.concatenate(all_faces)

    # the outline runs: rim front -> (rim) -> rim back -> back midline -> crown -> front midline -> rim front
    ends = [i for i in outline if middle[i] and rim[i]]
    front, back = max(ends, key=lambda i: v[i, 2]), min(ends, key=lambda i: v[i, 2])
    order = outline.index(front)
    ring = outline[order:] + outline[:order]
    if not rim[ring[1]] or middle[ring[1]]:
        ring = [ring[0], *ring[:0:-1]]
    crown = min((i for i in ring if middle[i]), key=lambda i: float(np.linalg.norm(v[i] - CROWN)))
    at_back, at_crown = ring.index(back), ring.index(crown)
    bottom, spine, front_line = ring[: at_back + 1], ring[at_back : at_crown + 1], [*ring[at_crown:], front]
    region = _face_regions(named, used, closed, len(faces))
    density = _density(region, points, closed, np.ones(len(SHARES)))

    def lengths(path: list[int]) -> np.ndarray:
        step = np.linalg.norm(np.diff(points[path], axis=0), axis=1)
        return step * np.sqrt((point_density[path[1:]] + point_density[path[:-1]]) / 2)

    point_density = np.zeros(len(points))
    shares = np.zeros(len(points))
    np.add.at(point_density, closed.ravel(), np.repeat(density, 3))
    np.add.at(shares, closed.ravel(), 1)
    point_density /= np.maximum(shares, 1)

    spine_share = spread_on_side(lengths(spine))
    turn = int(np.argmin(np.abs(spine_share - SKIN_BOTTOM / (SKIN_BOTTOM + 0.5))))
    place = np.zeros((len(points), 2))
    free = np.ones((len(points), 2), bool)

    def lay(path: list[int], start: tuple[float, float], end: tuple[float, float]) -> None:
        share = spread_on_side(lengths(path))[:, None]
        place[path] = (1 - share) * np.array(start) + share * np.array(end)
        free[path] &= np.array(start) != np.array(end)

    # flattened with v upwards, so that triangles stay counter-clockwise
    lay(bottom, (0.5, 0.0), (1.0, 0.0))
    lay(spine[: turn + 1], (1.0, 0.0), (1.0, SKIN_BOTTOM))
    lay(spine[turn:], (1.0, SKIN_BOTTOM), (0.5, SKIN_BOTTOM))
    lay(front_line, (0.5, SKIN_BOTTOM), (0.5, 0.0))
    fixed = np.zeros(len(points), bool)
    fixed[ring] = True
    uv = tutte(closed, fixed, place)
    weight = np.ones(len(closed))
    for name, value in IMPORTANCE.items():
        weight[: len(faces)][named[name][used][faces].all(1)] = value
    gain = np.ones(len(SHARES))
    for k in range(SHARE_ROUNDS):
        uv = descend(uv, free, points, closed, density, weight, 40 if k == 0 else 15)
        gain *= (np.array(list(SHARES.values())) / 2 / _shares(uv, closed, region)) ** 0.7
        density = _density(region, points, closed, gain)
    uv = descend(uv, free, points, closed, density, weight, 25)[: len(v)].clip(0, 1)
    return face_idx, faces, np.stack([uv[:, 0], SKIN_BOTTOM - uv[:, 1]], axis=1)


def _face_regions(
    named: dict[str, np.ndarray], used: np.ndarray, closed: np.ndarray, real: int
) -> np.ndarray:
    """[F'] index into SHARES of every triangle of the half; -1 for the fans that close the eye holes."""
    region = np.full(len(closed), -1)
    for k, name in enumerate(SHARES):
        votes = named[name][used][closed[:real]].sum(1)
        region[:real][(votes >= 2) & (region[:real] < 0)] = k
    region[:real][region[:real] < 0] = list(SHARES).index("face")
    return region


def _shares(uv: np.ndarray, closed: np.ndarray, region: np.ndarray) -> np.ndarray:
    a, b, c = (uv[closed[:, k]] for k in range(3))
    area = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
    return np.bincount(region + 1, weights=area, minlength=len(SHARES) + 1)[1:]


def _density(region: np.ndarray, points: np.ndarray, closed: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """[F'] wanted uv area per m² of every triangle of the half (holes included), smooth across regions."""
    a, b, c = (points[closed[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    density = np.zeros(len(closed))
    for k, share in enumerate(SHARES.values()):
        inside = region == k
        density[inside] = gain[k] * share / 2 / area[inside].sum()
    hole = region < 0
    density[hole] = EYE_HOLE / 2 / max(area[hole].sum(), 1e-12)
    # blend in the logarithm over a few rings
    total = np.zeros(len(points))
    count = np.zeros(len(points))
    np.add.at(total, closed.ravel(), np.repeat(np.log(density), 3))
    np.add.at(count, closed.ravel(), 1)
    soft = smooth(closed, total / count, 6)
    density = np.exp(soft[closed].mean(1))
    return density * SKIN_BOTTOM / 2 / (density * area).sum()


def _strip_charts(head: Head) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Left-half charts of eye, tongue, teeth, lashes in the right half of the strip."""
    top, bottom = STRIP
    height = bottom - top
    charts = []
    x = 0.5 + GAP / 2
    eye_idx, eye_used, _ = _left_half(head, head.of("eye"))
    corners, square = _eye_square()
    order = {tuple(sorted(f)): k for k, f in enumerate((eye_faces() + eye_used.min()).tolist())}
    pick = [order[tuple(sorted(f))] for f in head.faces[eye_idx].tolist()]
    charts.append((eye_idx, corners[pick], square * height + [x, top]))
    x += height + GAP
    stacks = [
        (("tongue",), 0.110),
        (("upper_teeth", "lower_teeth"), 0.190),
        (("upper_lash", "lower_lash"), 0.0),
    ]
    for names, width in stacks:
        width = width or 1.0 - x
        each = (height - GAP * (len(names) - 1)) / len(names)
        for k, name in enumerate(names):
            face_idx, used, faces = _left_half(head, head.of(name))
            uv = flatten_part(head.mean[used], faces, width / each)
            box = np.array([x, top + k * (each + GAP)])
            charts.append((face_idx, faces, np.stack([uv[:, 0], 1 - uv[:, 1]], 1) * [width, each] + box))
        x += width + GAP
    return charts


def _eye_square() -> tuple[np.ndarray, np.ndarray]:
    """uv corners of eye_faces() [n, 3] and their places in a unit square, v downwards.

    The front pole sits in the middle, the seen 60 degrees take four fifths of the radius, the back pole is
    split along the outline.
    """
    degrees = np.array(EYE_RINGS_DEG)
    radius = np.interp(degrees, [0, 60, degrees[-1]], [0, 0.80, 0.94])
    phi = np.arange(EYE_SEGMENTS) * 2 * np.pi / EYE_SEGMENTS

    def point(r: np.ndarray, angle: np.ndarray) -> np.ndarray:
        direction = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        to_square = 1 / np.abs(direction).max(-1)
        blend = np.clip((r - 0.45) / 0.35, 0, 1)
        return direction * (r * (1 + blend * (to_square - 1)))[..., None]

    rings = [point(np.full(EYE_SEGMENTS, r), phi) for r in radius]
    back = point(np.full(EYE_SEGMENTS, 1.0), phi + np.pi / EYE_SEGMENTS)
    places = np.concatenate([np.zeros((1, 2)), *rings, back])
    faces = eye_faces().copy()
    pole = 1 + len(degrees) * EYE_SEGMENTS
    last = pole - EYE_SEGMENTS
    for f in faces:
        if pole in f:
            k = int(f[0]) - last
            f[f == pole] = pole + k
    return faces, np.stack([0.5 + places[:, 0] / 2, 0.5 - places[:, 1] / 2], axis=1)
