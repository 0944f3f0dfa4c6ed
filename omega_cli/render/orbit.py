"""Cameras that look at the head: framing, the turntable, the contact sheet. Pure maths."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from omega_cli.geometry.camera import Camera, orbit_viewmat, perspective

DISTANCE = 1.2  # m, ours: a portrait lens; perspective of the face as one sees it across a table
SHEET_AZIMUTHS = (0.0, 45.0, 90.0, 135.0, 180.0, 225.0, 270.0, 315.0)
ELEVATION_DEG = 6.0  # ours: the turntable's mean elevation
SWING_DEG = 5.0  # ours: and how far it rises and sinks in one turn


@dataclasses.dataclass(frozen=True)
class Framing:
    """What the pictures of one head show: centre [3] m and the half side, m, at the centre's depth."""

    centre: Tensor
    half_extent: float

    def camera(self, azimuth_deg: float, elevation_deg: float, size: int, id: str = "") -> Camera:
        """Square pinhole camera, `size` px, in orbit about the centre."""
        return perspective(azimuth_deg, size, self.half_extent, DISTANCE, self.centre, elevation_deg, id)


def frame_head(vertices: Tensor, fill: float = 0.92) -> Framing:
    """Framing in which all vertices [V, 3] stay inside `fill` of the picture from every direction."""
    low, high = vertices.amin(0), vertices.amax(0)
    centre = (low + high) / 2
    spread = torch.zeros(())
    for azimuth in SHEET_AZIMUTHS:
        viewmat = orbit_viewmat(azimuth, 0.0, DISTANCE, centre)
        p = vertices @ viewmat[:3, :3].T + viewmat[:3, 3]
        spread = torch.maximum(spread, (p[:, :2].abs() / p[:, 2:]).amax())
    return Framing(centre, float(spread) * DISTANCE / fill)


def frame_portrait(vertices: Tensor, top: float = 0.9, side: float = 0.8, hem: float = 0.035) -> Framing:
    """Framing for a face that is filmed from the front: the bust runs out of the picture's lower edge.

    The crown reaches `top` of the upper half, the head stays within `side` of the half width at rest
    (room for turns), and the lowest `hem` m of the bust stay outside (a little less at the back, which
    is farther away). vertices [V, 3] m.
    """
    low, high = vertices.amin(0), vertices.amax(0)
    bottom = low[1] + hem
    middle = (low + high) / 2
    head = vertices[vertices[:, 1] > low[1] + 0.4 * (high[1] - low[1])]  # not the shoulders
    wide = (head[:, 0] - middle[0]).abs().amax() / side
    half = torch.maximum((high[1] - bottom) / (1 + top), wide)
    return Framing(torch.stack([middle[0], bottom + half, middle[2]]), float(half))


def turntable(framing: Framing, frames: int, size: int) -> list[Camera]:
    """One full turn, evenly, starting at the face; elevation swings gently so that the crown is seen."""
    cameras = []
    for i in range(frames):
        share = i / frames
        elevation = ELEVATION_DEG + SWING_DEG * math.sin(2 * math.pi * share)
        cameras.append(framing.camera(360.0 * share, elevation, size, f"{i:06d}"))
    return cameras


def directions(framing: Framing, azimuths: list[float], elevations: list[float], size: int) -> list[Camera]:
    """One camera an azimuth; `elevations` empty (0), single, or one for each."""
    if len(elevations) <= 1:
        elevations = (elevations or [0.0]) * len(azimuths)
    return [
        framing.camera(azimuth, elevation, size, f"{azimuth:g}_{elevation:g}")
        for azimuth, elevation in zip(azimuths, elevations, strict=True)
    ]


def on_device(cameras: Sequence[Camera], device: torch.device | str) -> list[Camera]:
    """The cameras there, moved in two copies: on a GPU every copy waits."""
    if not cameras or cameras[0].K.device == torch.device(device):
        return list(cameras)
    Ks = torch.stack([camera.K for camera in cameras]).to(device)
    viewmats = torch.stack([camera.viewmat for camera in cameras]).to(device)
    return [
        dataclasses.replace(camera, K=K, viewmat=viewmat)
        for camera, K, viewmat in zip(cameras, Ks, viewmats, strict=True)
    ]


def swing(framing: Framing, frames: int, size: int, fps: float, reach_deg: float = 30.0) -> list[Camera]:
    """A slow swing to both sides of the face, one period in 8 s, for reenactment's orbit camera."""
    period = 8.0 * fps
    return [
        framing.camera(reach_deg * math.sin(2 * math.pi * i / period), 4.0, size, f"{i:06d}")
        for i in range(frames)
    ]
