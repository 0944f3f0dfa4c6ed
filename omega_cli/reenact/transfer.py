"""Motion transfer: a driver's tracked parameters become the avatar's. Pure maths.

Paper, supplement "Expression Reenactment": the driver's expression and pose go into the head model,
which carries the Gaussians. The paper injects them as tracked; ours are relative to the driver's
neutral (`relative=True`), so a driver who rests with raised brows does not give the avatar raised brows:

- expression: how far the driver has left its own neutral, in shares of what was left to go. A driver
  whose eyes rest at blink 0.2 and close to 1.0 closes the avatar's eyes to 1.0, not to 0.8.
- the mouth's opening: from the most closed that the driver's lips were seen, not from the neutral,
  because people who talk through a whole film rest with parted lips only on average.
- jaw and eyes: rotation from neutral, in the joint's own frame, on top of the avatar's rest.
- head: rotation from neutral in the head's own frame, on top of the avatar's placing. Most of it turns
  about the skull base (neck_pose) so that the bust stays put.
- translation: damped and bounded; the bust stays in the picture.

The avatar's rest is expression 0 with a closed jaw. A photo taken with a smile was textured on the
smiling mesh, so fading to 0 relaxes the surface and takes the texture along; `keep_expression` keeps a
share of the photo's expression instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from omega_cli.geometry.rotation import axis_angle_to_matrix, matrix_to_axis_angle
from omega_cli.head.params import HeadParams

BUST_SHARE = 0.12  # ours: part of a head turn that the shoulders' edge follows
TRANSL_SHARE = 0.35  # ours: part of the driver's translation that is followed
MOST_REST = 0.5  # ours: a neutral beyond it stretches the driver's motion no further (at most twofold)
SOFT_TOP = 0.15  # ours: shape weights run linearly to 1 and saturate at 1 + this
SOFT_BOTTOM = 0.12  # ours: and, on the other side of neutral, at minus this
ONE_SIDED = ("jawOpen", "mouthClose", "tongueOut", "cheekPuff", "mouthFunnel", "mouthPucker")
OPENING = ("jawOpen", "mouthUpperUp", "mouthLowerDown")  # names of shapes that part the lips begin so
MOST_CLOSED = 0.02  # ours: quantile over the film that counts as the driver's closed mouth
JAW_LIMIT_DEG = 30.0  # ours
EYE_LIMIT_DEG = 35.0  # ours
LINEAR_LIMIT = 3.0  # ours: bound, in standard deviations, where the basis is not a set of named shapes


def soft_limit(x: Tensor, knee: float | Tensor, limit: float | Tensor) -> Tensor:
    """x unchanged for |x| <= knee, then smoothly saturating at `limit`; odd, monotone, C1. Any shape."""
    room = torch.as_tensor(limit - knee, dtype=x.dtype, device=x.device).clamp_min(1e-8)
    over = (x.abs() - knee).clamp_min(0.0)
    return torch.where(x.abs() <= knee, x, x.sign() * (knee + room * torch.tanh(over / room)))


def limit_rotation(rotvec: Tensor, limit_deg: float) -> Tensor:
    """Axis-angle [..., 3] rad with its angle softly bounded; small angles pass unchanged."""
    limit = math.radians(limit_deg)
    angle = rotvec.norm(dim=-1, keepdim=True)
    return rotvec * (soft_limit(angle, 0.6 * limit, limit) / angle.clamp_min(1e-8))


def relative_expression(
    driver: Tensor,  # [T, E]
    neutral: Tensor,  # [E]
    names: Sequence[str] | None,
    gain: float = 1.0,
) -> Tensor:  # [T, E]
    """How far each frame has left the driver's neutral.

    Named shapes (weights meant for [0, 1]) are rescaled by what was left to go above neutral, so
    neutral maps to 0 and 1 stays 1. Other bases give the plain difference.
    """
    delta = driver - neutral
    if names:
        left = (1.0 - neutral.clamp(0.0, MOST_REST)).expand_as(delta)
        delta = torch.where(delta > 0, delta / left, delta)
    return gain * delta


def expression_start(driver: Tensor, neutral: Tensor, names: Sequence[str] | None) -> Tensor:
    """Where the driver's motion [T, E] is counted from, [E]: its neutral [E], its closed mouth for lips."""
    if not names:
        return neutral
    closed = torch.minimum(neutral, driver.quantile(MOST_CLOSED, dim=0))
    opening = torch.tensor([name.startswith(OPENING) for name in names], device=driver.device)
    return torch.where(opening, closed, neutral)


def plausible_expression(expression: Tensor, names: Sequence[str] | None) -> Tensor:  # [T, E]
    """Bound every coefficient softly: no shape beyond what a face does, no kink that pops in time."""
    if not names:
        return soft_limit(expression, 0.7 * LINEAR_LIMIT, LINEAR_LIMIT)
    above = soft_limit(expression.clamp_min(0.0), 1.0, 1.0 + SOFT_TOP)
    below = SOFT_BOTTOM * torch.tanh(expression.clamp_max(0.0) / SOFT_BOTTOM)
    one_sided = torch.tensor([name in ONE_SIDED for name in names], device=expression.device)
    return above + torch.where(one_sided, torch.zeros_like(below), below)


def relative_rotation(rotvec: Tensor, neutral: Tensor, gain: float = 1.0) -> Tensor:
    """Rotation from `neutral` [3] to each of `rotvec` [T, 3], in the joint's own frame, axis-angle."""
    R_neutral = axis_angle_to_matrix(neutral)
    return gain * matrix_to_axis_angle(R_neutral.transpose(-1, -2) @ axis_angle_to_matrix(rotvec))


def compose(first: Tensor, second: Tensor) -> Tensor:
    """Axis-angle of R(first) @ R(second): `second` happens in `first`'s frame. [..., 3] each."""
    return matrix_to_axis_angle(axis_angle_to_matrix(first) @ axis_angle_to_matrix(second))


def head_rotation(params: HeadParams) -> Tensor:
    """Skull orientation in the world [T, 3] axis-angle: global_orient then neck_pose."""
    return compose(params.global_orient, params.neck_pose)


def split_head_rotation(
    base_orient: Tensor,  # [3]
    base_neck: Tensor,  # [3]
    turn: Tensor,  # [T, 3]
) -> tuple[Tensor, Tensor]:
    """(global_orient, neck_pose), [T, 3] each, whose product is base_orient · base_neck · turn exactly.

    The bust (all that hangs on the root joint) takes BUST_SHARE of the turn, the skull base the rest.
    """
    bust = compose(base_orient.expand_as(turn), BUST_SHARE * turn)
    skull = axis_angle_to_matrix(base_orient) @ axis_angle_to_matrix(base_neck) @ axis_angle_to_matrix(turn)
    neck = matrix_to_axis_angle(axis_angle_to_matrix(bust).transpose(-1, -2) @ skull)
    return bust, neck


def transfer_motion(
    driver: HeadParams,  # T frames
    neutral: HeadParams,  # 1 frame
    avatar: HeadParams,  # 1 frame: the avatar's identity, photo expression and placing
    names: Sequence[str] | None,
    *,
    relative: bool = True,
    keep_expression: float = 0.0,
    expression_gain: float = 1.0,
    head_gain: float = 1.0,
    max_turn_deg: float = 40.0,
    max_shift: float = 0.03,
) -> HeadParams:
    """The avatar's parameters for every driver frame: avatar betas and scale, T frames of motion.

    `avatar.global_orient`, `neck_pose` and `transl` say where the head rests (zeros for a frontal
    camera). Not relative: expression, jaw, eyes and head rotation are taken as tracked.
    """
    zero = torch.zeros(3, dtype=driver.global_orient.dtype, device=driver.global_orient.device)
    at = (lambda x: x[0]) if relative else (lambda x: zero)
    rest = keep_expression

    start = torch.zeros_like(neutral.expression[0])
    if relative:
        start = expression_start(driver.expression, neutral.expression[0], names)
    expression = relative_expression(driver.expression, start, names, expression_gain)
    expression = plausible_expression(rest * avatar.expression + expression, names)

    jaw = relative_rotation(driver.jaw_pose, at(neutral.jaw_pose), expression_gain)
    jaw = limit_rotation(compose((rest * avatar.jaw_pose).expand_as(jaw), jaw), JAW_LIMIT_DEG)
    eyes = [
        limit_rotation(relative_rotation(pose, at(still)), EYE_LIMIT_DEG)
        for pose, still in ((driver.leye_pose, neutral.leye_pose), (driver.reye_pose, neutral.reye_pose))
    ]

    start = head_rotation(neutral)[0] if relative else zero
    turn = limit_rotation(relative_rotation(head_rotation(driver), start, head_gain), max_turn_deg)
    bust, neck = split_head_rotation(avatar.global_orient[0], avatar.neck_pose[0], turn)

    shift = TRANSL_SHARE * head_gain * (driver.transl - neutral.transl[0])
    length = shift.norm(dim=-1, keepdim=True)
    shift = shift * (soft_limit(length, 0.5 * max_shift, max_shift) / length.clamp_min(1e-8))
    return avatar.replace(
        expression=expression,
        global_orient=bust,
        neck_pose=neck,
        jaw_pose=jaw,
        leye_pose=eyes[0],
        reye_pose=eyes[1],
        transl=avatar.transl + shift,
    )
