"""Eyeballs: the photo's texels where it shows them, the rest completed around the iris that it shows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Radii in the eye's own plane, m: anatomical means (iris 11.7 mm across, pupil 4 mm); the colours are ours,
# for eyes that the photo does not show.
PUPIL_M, IRIS_M, LIMBUS_M = 0.0020, 0.00585, 0.0066
PUPIL, IRIS, LIMBUS = (0.05, 0.04, 0.04), (0.30, 0.21, 0.14), (0.22, 0.17, 0.14)
SCLERA, VEINED = (0.84, 0.80, 0.77), (0.72, 0.55, 0.50)
SEARCH_DEG = 18  # how far the photo's gaze may differ from the mesh's


@dataclass(frozen=True)
class EyeAngles:
    """Where pupil, iris and limbus end, degrees from the eye's axis, on a ball of some radius."""

    pupil: float
    iris: float
    limbus: float

    @staticmethod
    def of(radius: float) -> EyeAngles:  # m; heads draw eyeballs larger than life, irises not
        edges = (PUPIL_M, IRIS_M, LIMBUS_M)
        return EyeAngles(*(math.degrees(math.asin(min(0.9, e / max(radius, 0.008)))) for e in edges))


@dataclass(frozen=True)
class Iris:
    """axis [3] unit, from the ball's centre through the pupil; contrast: sclera minus iris luminance."""

    axis: Tensor
    contrast: float


def axis_from_angles(yaw_deg: Tensor, pitch_deg: Tensor) -> Tensor:  # [...] -> [..., 3]
    """Unit vectors; (0, 0) looks along +z, yaw towards +x, pitch towards +y."""
    yaw, pitch = torch.deg2rad(yaw_deg), torch.deg2rad(pitch_deg)
    return torch.stack([yaw.sin() * pitch.cos(), pitch.sin(), yaw.cos() * pitch.cos()], -1)


def find_iris(directions: Tensor, rgb: Tensor, share: Tensor, angles: EyeAngles) -> Iris:
    """The axis around which the seen texels are darkest inside and brightest outside.

    directions [N, 3] unit, from the ball's centre; rgb [N, 3]; share [N] in [0, 1]. With too few seen texels
    or no contrast the axis is straight ahead.
    """
    grid = torch.arange(-SEARCH_DEG, SEARCH_DEG + 1, 2.0, device=rgb.device)
    yaw, pitch = torch.meshgrid(grid, grid[grid.abs() <= 12], indexing="ij")
    axes = axis_from_angles(yaw.flatten(), pitch.flatten())
    ahead = torch.tensor([0.0, 0.0, 1.0], device=rgb.device)
    if float(share.sum()) < 12:
        return Iris(ahead, 0.0)
    luminance = rgb @ rgb.new_tensor([0.299, 0.587, 0.114])
    angle = torch.rad2deg(torch.acos((axes @ directions.T).clamp(-1, 1)))  # [A, N]
    inside = torch.sigmoid((angles.iris - angle) / 2) * share
    ring = torch.sigmoid((angle - angles.limbus) / 2) * torch.sigmoid((2 * angles.iris - angle) / 2) * share
    enough = (inside.sum(1) > 4) & (ring.sum(1) > 4)
    dark = (inside * luminance).sum(1) / inside.sum(1).clamp_min(1e-6)
    bright = (ring * luminance).sum(1) / ring.sum(1).clamp_min(1e-6)
    # A weak pull ahead settles eyes whose lids hide most of the iris.
    score = (
        torch.where(enough, bright - dark, -1.0) - 0.0004 * (yaw.flatten() ** 2 + pitch.flatten() ** 2) / 10
    )
    best = int(score.argmax())
    contrast = float((bright - dark)[best]) if bool(enough[best]) else 0.0
    return Iris(axes[best] if contrast > 0.04 else ahead, contrast)


def standard_eye(angle_deg: Tensor, angles: EyeAngles) -> Tensor:  # [N] -> [N, 3]
    """Colours of an average brown eye by angle from its axis."""
    pupil, iris, limbus = angles.pupil, angles.iris, angles.limbus
    place = angle_deg.device
    stops = torch.tensor([0.0, pupil - 1, pupil + 1, iris - 2.5, iris, limbus, 60.0, 95.0], device=place)
    colours = torch.tensor([PUPIL, PUPIL, IRIS, IRIS, LIMBUS, SCLERA, SCLERA, VEINED], device=place)
    right = torch.searchsorted(stops, angle_deg.clamp(0, 94.9), right=True).clamp(1, len(stops) - 1)
    t = ((angle_deg - stops[right - 1]) / (stops[right] - stops[right - 1])).clamp(0, 1)[:, None]
    return colours[right - 1] * (1 - t) + colours[right] * t


def complete_eyeball(
    points: Tensor,  # [N, 3] m, from the ball's centre; at rest the eye looks along +z
    rgb: Tensor,  # [N, 3]
    share: Tensor,  # [N] in [0, 1]
    exposure: float = 1.0,
) -> tuple[Tensor, Iris]:
    """Colours [N, 3] of one eyeball: seen texels as they are, the others from the ring at their angle.

    Each ring takes the mean of its seen texels where there are some, else the standard eye scaled by
    `exposure` (the photo's light) and by what the seen rings say.
    """
    angles = EyeAngles.of(float(points.norm(dim=1).median()))
    directions = F.normalize(points, dim=1)
    iris = find_iris(directions, rgb, share, angles)
    angle = torch.rad2deg(torch.acos((directions @ iris.axis).clamp(-1, 1)))
    standard = (standard_eye(angle, angles) * exposure).clamp(0, 1)
    if float(share.sum()) >= 12:
        rings = torch.arange(0.0, 100.0, 4.0, device=rgb.device)
        near = torch.exp(-0.5 * ((angle[None] - rings[:, None]) / 3.0) ** 2) * share[None]
        mass = near.sum(1, keepdim=True)
        trust = mass / (mass + 2.0)
        ring_rgb = (near @ rgb) / mass.clamp_min(1e-6)
        place = (angle / 4.0).clamp(0, len(rings) - 1.001)
        low, t = place.floor().long(), (place - place.floor())[:, None]
        profile = ring_rgb[low] * (1 - t) + ring_rgb[low + 1] * t
        profile_trust = trust[low] * (1 - t) + trust[low + 1] * t
        # Sclera that a lid shades in the photo is not the colour of the rest of it.
        white = F.relu(angle - angles.limbus)[:, None].clamp(max=8) / 8
        profile_trust = profile_trust * (1 - 0.5 * white)
        standard = profile * profile_trust + standard * (1 - profile_trust)
    return rgb * share[:, None] + standard * (1 - share[:, None]), iris
