"""How well a driven head follows its driver: distances of expression, pose and landmarks after tracking.

Sources. AED and APD: FOMM (Siarohin et al. 2019) for the idea; on 3DMM parameters as GAGAvatar has it, the
mean absolute difference of the expression coefficients and of the first three pose numbers of Deep3DFace's
reconstruction (its issue #36). AKD: FOMM; on 68 points as FlexAvatar has it.

Here the parameters are those of `omega_cli.track`: the open head's 52 expression weights in [0, 1] (or
FLAME's coefficients) and angles in radians. Numbers compare heads tracked by one tracker on one head model,
never with published ones, which measure Deep3DFace's coefficients.
Frames where tracking failed are NaN in, NaN out: count them beside the mean.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from omega_cli.geometry.rotation import axis_angle_to_matrix
from omega_cli.head.params import HeadParams

AKD_SIDE = 512  # px; landmark distances are given for a picture of this side


def aed(a: HeadParams, b: HeadParams) -> Tensor:  # [T]
    """Average expression distance: mean |ψ_a - ψ_b| over the E expression parameters of each frame."""
    _check_frames(a, b)
    if a.expression.shape[1] != b.expression.shape[1]:
        raise ValueError(
            f"a and b must be of one head model, got {a.expression.shape[1]} and {b.expression.shape[1]} "
            "expression parameters"
        )
    return (a.expression - b.expression).abs().mean(1)


def apd(a: HeadParams, b: HeadParams) -> Tensor:  # [T]
    """Average pose distance, rad: mean absolute difference of pitch, yaw and roll of the head.

    The head's turn is that of root and neck together: trackers share it out between them differently.
    """
    _check_frames(a, b)
    difference = head_angles(a) - head_angles(b)
    wrapped = torch.remainder(difference + math.pi, 2 * math.pi) - math.pi
    return wrapped.abs().mean(1)


def head_angles(params: HeadParams) -> Tensor:  # [T, 3]
    """Pitch, yaw and roll in rad of R = R_z(roll) R_y(yaw) R_x(pitch) (Deep3DFace's order) of the head."""
    R = axis_angle_to_matrix(params.global_orient) @ axis_angle_to_matrix(params.neck_pose)
    pitch = torch.atan2(R[:, 2, 1], R[:, 2, 2])
    yaw = torch.atan2(-R[:, 2, 0], torch.hypot(R[:, 2, 1], R[:, 2, 2]))
    roll = torch.atan2(R[:, 1, 0], R[:, 0, 0])
    return torch.stack([pitch, yaw, roll], 1)


def akd(
    a: Tensor,  # [T, L, 2] px
    b: Tensor,  # [T, L, 2] px
    size: int,
) -> Tensor:  # [T]
    """Average keypoint distance: mean over the L landmarks of their distance, in px of a 512 px picture.

    `size` is the side in px of the pictures that a and b were found in (both the same).
    """
    if a.shape != b.shape or a.ndim != 3 or a.shape[2] != 2:
        raise ValueError(f"a and b must both be [T, L, 2], got {list(a.shape)} and {list(b.shape)}")
    if size <= 0:
        raise ValueError(f"size must be positive, got {size}")
    return (a - b).norm(dim=2).mean(1) * (AKD_SIDE / size)


def _check_frames(a: HeadParams, b: HeadParams) -> None:
    if len(a) != len(b):
        raise ValueError(f"a and b must have as many frames, got {len(a)} and {len(b)}")
