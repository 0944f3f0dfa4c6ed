"""Rotations: axis-angle (rad), matrices, quaternions wxyz. Batched, differentiable, safe at the identity."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

_TINY = 1e-12  # rad
_SMALL = 1e-3  # below this angle (rad) the series are exact to float32: the next term is under 1e-13


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:  # [..., 3] rad -> [..., 3, 3]
    """Rodrigues' formula; finite gradients at zero."""
    half = 0.5 * torch.linalg.vector_norm(axis_angle, dim=-1)[..., None, None]
    half = half.clamp_min(_TINY)  # sin(x) / x is 1 there, and neither it nor the norm has a NaN gradient
    sine = half.sin() / half
    # sin(t) / t and (1 - cos(t)) / t^2, by the half angle: 1 - cos(t) cancels in float32
    a, b = sine * half.cos(), 0.5 * sine.square()
    K = cross_matrix(axis_angle)
    return torch.addcmul(torch.addcmul(_constants(K.dtype, K.device)[0], a, K), b, K @ K)


def cross_matrix(v: Tensor) -> Tensor:  # [..., 3] -> [..., 3, 3]
    """The matrix K with K @ u = v x u."""
    _, order, sign = _constants(v.dtype, v.device)
    return (v.index_select(-1, order) * sign).unflatten(-1, (3, 3))


@functools.cache
def _constants(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The identity, and which component of v, with which sign, stands where in its cross matrix. Kept, as
    every new copy on a GPU would wait for it."""
    with torch.inference_mode(False):
        sign = torch.tensor([0, -1, 1, 1, 0, -1, -1, 1, 0], dtype=dtype, device=device)
        order = torch.tensor([0, 2, 1, 2, 0, 0, 1, 0, 0], device=device)
        return torch.eye(3, dtype=dtype, device=device), order, sign


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:  # [..., 3, 3] -> [..., 3] rad, |.| <= pi
    return quat_to_axis_angle(matrix_to_quat(matrix))


def axis_angle_to_quat(axis_angle: Tensor) -> Tensor:  # [..., 3] rad -> [..., 4] wxyz
    squared = axis_angle.square().sum(-1, keepdim=True)
    small = squared < _SMALL**2
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    factor = torch.where(small, 0.5 - squared / 48, (angle / 2).sin() / angle)
    w = torch.where(small, 1 - squared / 8, (angle / 2).cos())
    return torch.cat([w, factor * axis_angle], -1)


def quat_to_axis_angle(quat: Tensor) -> Tensor:  # [..., 4] wxyz, unit -> [..., 3] rad, |.| <= pi
    quat = torch.where(quat[..., :1] < 0, -quat, quat)
    w, v = quat[..., :1], quat[..., 1:]
    squared = v.square().sum(-1, keepdim=True)
    small = squared < _SMALL**2
    length = torch.where(small, torch.ones_like(squared), squared).sqrt()
    factor = torch.where(small, 2 + squared / 3, 2 * torch.atan2(length, w) / length)
    return factor * v


def matrix_to_quat(matrix: Tensor) -> Tensor:  # [..., 3, 3] -> [..., 4] wxyz, unit, w >= 0
    """The best-conditioned of the four classic formulas is chosen per matrix."""
    m = matrix
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    squares = torch.stack([1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz], -1)
    a = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    b = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    rows = torch.stack(
        [
            torch.stack([squares[..., 0], a[0], a[1], a[2]], -1),
            torch.stack([a[0], squares[..., 1], b[0], b[1]], -1),
            torch.stack([a[1], b[0], squares[..., 2], b[2]], -1),
            torch.stack([a[2], b[1], b[2], squares[..., 3]], -1),
        ],
        -2,
    )
    best = squares.argmax(-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    quat = torch.nn.functional.normalize(rows.gather(-2, best).squeeze(-2), dim=-1)
    return torch.where(quat[..., :1] < 0, -quat, quat)


def quat_to_matrix(quat: Tensor) -> Tensor:  # [..., 4] wxyz (normalised here) -> [..., 3, 3]
    w, x, y, z = torch.nn.functional.normalize(quat, dim=-1).unbind(-1)
    return torch.stack(
        [
            1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
        ],
        -1,
    ).reshape(*quat.shape[:-1], 3, 3)  # fmt: skip


def quat_multiply(a: Tensor, b: Tensor) -> Tensor:  # [..., 4], [..., 4] -> [..., 4] wxyz
    """Hamilton product: the rotation b followed by a."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )
