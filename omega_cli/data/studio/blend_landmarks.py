"""iBUG's 68 points on heads of one topology: seen in renders of every head, triangulated, and set down on it.

The machine that trains has no landmarker; a pack of heads carries the points as faces and barycentrics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from omega_cli.errors import OmegaError
from omega_cli.evaluate.alignment import triangulate
from omega_cli.geometry.camera import Camera, orthographic
from omega_cli.geometry.mesh import vertex_normals
from omega_cli.geometry.raster import blend, rasterize

AZIMUTHS = (0.0, 25.0, -25.0, 12.0, -12.0)  # degrees: where the landmarker still sees both eyes well
SIZE, HALF_EXTENT = 512, 0.16  # px, m
CANDIDATES = 12  # vertices near a point whose triangles may hold it

Detect = Callable[[np.ndarray], "np.ndarray | None"]
"""rgb [H, W, 3] uint8 -> [68, 2] px, or None where no face is found."""


def portrait(
    vertices: Tensor,  # [V, 3] m
    faces: Tensor,  # [F, 3]
    uv: Tensor,  # [V, 2]
    texture: Tensor,  # [3, S, S] in [0, 1]
    camera: Camera,
) -> np.ndarray:  # [H, W, 3] uint8
    """A plainly lit picture on grey: enough for a landmarker."""
    seen = rasterize(vertices, faces, camera)
    covered = seen.face_index >= 0
    face, weights = seen.face_index[covered], seen.barycentric[covered]
    values = blend(torch.cat([vertex_normals(vertices, faces), uv], 1), faces, face, weights)
    grid = (2 * values[:, 3:] - 1)[None, None]
    colour = torch.nn.functional.grid_sample(texture[None], grid, align_corners=False)[0, :, 0].T
    facing = torch.nn.functional.normalize(values[:, :3], dim=1) @ -camera.forward
    out = torch.full((*covered.shape, 3), 0.6)
    out[covered] = colour * (0.55 + 0.5 * facing.abs()[:, None])
    return (out.clamp(0, 1) * 255).byte().numpy()


def find(
    vertices: Tensor,  # [V, 3] m, the mouth a little open: closed lips hide which of them a point is on
    faces: Tensor,  # [F, 3]
    uv: Tensor,  # [V, 2]
    texture: Tensor,  # [3, S, S]
    centre: Tensor,  # [3] of the head
    detect: Detect,
    name: str,
) -> tuple[Tensor, Tensor]:
    """face_index [68], barycentric [68, 3]. Raises OmegaError where fewer than two pictures show a face."""
    cameras = [orthographic(a, SIZE, HALF_EXTENT, centre) for a in AZIMUTHS]
    pixels: list[Tensor] = []
    used: list[Camera] = []
    for camera in cameras:
        points = detect(portrait(vertices, faces, uv, texture, camera))
        if points is not None:
            pixels.append(torch.from_numpy(points).float())
            used.append(camera)
    if len(used) < 2:
        raise OmegaError(f"No face is found on the head {name}.", "Leave the head out by its name.")
    points, _ = triangulate(pixels, used)
    return on_surface(points.float(), vertices, faces)


def on_surface(points: Tensor, vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest place [L] of each point [L, 3] on the mesh, among the triangles that face +z there.

    (Behind the lips and lids lie others, of the mouth's and the eyes' inside.)
    """
    ahead = torch.nonzero(vertex_normals(vertices, faces)[:, 2] > 0.1)[:, 0]
    near = KDTree(vertices[ahead].numpy()).query(points.numpy(), k=min(CANDIDATES, len(ahead)))[1]
    close = ahead[torch.from_numpy(np.asarray(near, np.int64)).view(len(points), -1)]
    face_index, barycentric = torch.zeros(len(points), dtype=torch.long), torch.zeros(len(points), 3)
    for i, point in enumerate(points):
        touching = torch.nonzero(torch.isin(faces, close[i]).any(1))[:, 0]
        weights = nearest_weights(point, vertices[faces[touching]])
        gap = ((weights[..., None] * vertices[faces[touching]]).sum(1) - point).norm(dim=1)
        best = int(gap.argmin())
        face_index[i], barycentric[i] = touching[best], weights[best]
    return face_index, barycentric


def nearest_weights(point: Tensor, corners: Tensor) -> Tensor:
    """Barycentrics [n, 3] of the places nearest to point [3] on triangles [n, 3, 3]."""
    a, b, c = corners.unbind(1)
    options = [_inside(point, a, b, c)]
    for i, (p, q) in enumerate(((a, b), (b, c), (c, a))):
        along = q - p
        t = (((point - p) * along).sum(1) / along.square().sum(1).clamp_min(1e-20)).clamp(0, 1)
        edge = torch.zeros(len(corners), 3)
        edge[:, i], edge[:, (i + 1) % 3] = 1 - t, t
        options.append(edge)
    weights = torch.stack(options)  # [4, n, 3]
    gap = (torch.einsum("knc,ncx->knx", weights, corners) - point).square().sum(-1)
    gap[0] = torch.where((weights[0] >= 0).all(1), gap[0], torch.inf)
    return weights[gap.argmin(0), torch.arange(len(corners))]


def _inside(point: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    normal = torch.linalg.cross(b - a, c - a)
    area = normal.square().sum(1).clamp_min(1e-20)
    u = (torch.linalg.cross(c - b, point - b) * normal).sum(1) / area
    v = (torch.linalg.cross(a - c, point - c) * normal).sum(1) / area
    return torch.stack([u, v, 1 - u - v], 1)


def rescale(points: Sequence[Tensor], rounds: int = 4) -> tuple[list[float], list[Tensor], Tensor]:
    """Scale and shift [3] of each set of points [L, 3] that bring them all nearest to their mean [L, 3]."""
    mean = points[0]
    scales, shifts = [1.0] * len(points), [torch.zeros(3)] * len(points)
    for _ in range(rounds):
        middle = mean - mean.mean(0)
        for i, own in enumerate(points):
            around = own - own.mean(0)
            scales[i] = float((around * middle).sum() / around.square().sum())
            shifts[i] = mean.mean(0) - scales[i] * own.mean(0)
        fitted = torch.stack([s * p + t for p, s, t in zip(points, scales, shifts, strict=True)])
        size = points[0].sub(points[0].mean(0)).norm()
        mean = fitted.mean(0)
        # the first head's size is kept, or the mean would shrink from round to round
        mean = (mean - mean.mean(0)) * (size / (mean - mean.mean(0)).norm()) + mean.mean(0)
    return scales, shifts, mean
