"""Where the avatar stands in a data set's world: landmarks triangulated from its pictures, then a similarity.

One picture leaves the head's size and distance open, and every camera from the side would see the error.
Methods that are trained on tracked data get the head's place from that tracking, which uses all cameras; we
take it from the same pictures by landmarks alone. Shape and colour come from the source picture only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from omega_cli.geometry.camera import Camera

LEAST_VIEWS = 2
LEAST_SPREAD_DEG = 15.0  # ours: cameras closer together agree about any depth, right or wrong
STRAY = 0.5  # ours: a camera is left out when the others then agree this much better


def rays(pixels: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Origins and unit directions [L, 3] in the world of pixels [L, 2]."""
    near = camera.unproject(pixels, torch.full_like(pixels[:, 0], 0.5))
    far = camera.unproject(pixels, torch.ones_like(pixels[:, 0]))
    return near, torch.nn.functional.normalize(far - near, dim=1)


def triangulate(
    pixels: Sequence[Tensor],  # V of [L, 2] px
    cameras: Sequence[Camera],  # V
) -> tuple[Tensor, Tensor]:
    """Points [L, 3] nearest (least squares) to their rays, and the root mean square error [V] px per camera.

    A camera that sees the points elsewhere is left out, one after the other, while that brings the error of
    the others below STRAY times what it was, and they can still judge depth (`wide_enough`). Raises
    ValueError for fewer than LEAST_VIEWS cameras.
    """
    if len(cameras) < LEAST_VIEWS:
        raise ValueError(f"triangulation needs {LEAST_VIEWS} cameras, got {len(cameras)}")
    exact = [camera.to(p.device, torch.float64) for p, camera in zip(pixels, cameras, strict=True)]
    cast = [rays(p.double(), camera) for p, camera in zip(pixels, exact, strict=True)]

    def solve(used: list[int]) -> tuple[Tensor, Tensor]:
        points = _nearest([cast[i] for i in used])
        gaps = [c.project(points)[0] - p.double() for p, c in zip(pixels, exact, strict=True)]
        return points, torch.stack([gap.square().sum(1).mean().sqrt() for gap in gaps])

    used = list(range(len(cameras)))
    points, error = solve(used)
    while len(used) > LEAST_VIEWS:
        rests = [[j for j in used if j != i] for i in used]
        rests = [rest for rest in rests if wide_enough([cameras[j] for j in rest])]
        if not rests:
            break
        best = min(rests, key=lambda rest: float(solve(rest)[1][rest].mean()))
        fewer, fewer_error = solve(best)
        if fewer_error[best].mean() >= STRAY * error[used].mean():
            break
        used, points, error = best, fewer, fewer_error
    return points, error


def wide_enough(cameras: Sequence[Camera]) -> bool:
    """Whether two of the cameras look from LEAST_SPREAD_DEG apart or more."""
    if len(cameras) < LEAST_VIEWS:
        return False
    forward = torch.stack([camera.forward.double().cpu() for camera in cameras])
    return bool((forward @ forward.T).min() <= math.cos(math.radians(LEAST_SPREAD_DEG)))


def _nearest(cast: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    A, b = torch.zeros(1), torch.zeros(1)
    for origin, direction in cast:
        across = torch.eye(3).to(origin) - direction[:, :, None] * direction[:, None]
        A, b = A.to(origin) + across, b.to(origin) + (across @ origin[:, :, None])
    return torch.linalg.solve(A, b)[..., 0]


def azimuth_elevation(camera: Camera) -> tuple[float, float]:
    """Degrees at which a camera, in the head's frame, looks at the head: 0 the face, + the subject's left."""
    back = -camera.forward.double()
    azimuth = torch.rad2deg(torch.atan2(back[0], back[2]))
    return float(azimuth), float(torch.rad2deg(torch.asin(back[1].clamp(-1, 1))))
