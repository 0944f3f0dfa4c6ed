"""A rig that the reader tests photograph: three coloured lights, cameras that look at them askew."""

from __future__ import annotations

import numpy as np

LIGHTS = np.array([[0.03, 0.05, 0.02], [-0.05, -0.02, 0.04], [0.02, -0.06, -0.03]])  # red, green, blue; m
STEP = np.array([0.0012, -0.0007, 0.0009])  # m that all of them move from frame to frame


def lights(frame: int) -> np.ndarray:  # [3, 3] m
    return LIGHTS + frame * STEP


def pose(azimuth: float, roll: float, distance: float = 1.0) -> np.ndarray:
    """World -> camera [4, 4], m: looks at the origin from `azimuth`, with a roll; nothing symmetric."""
    a, r = np.radians(azimuth), np.radians(roll)
    turn = np.array([[np.cos(a), 0, -np.sin(a)], [0, -1, 0], [-np.sin(a), 0, -np.cos(a)]])
    spin = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(0.1), -np.sin(0.1)], [0, np.sin(0.1), np.cos(0.1)]])
    out = np.eye(4)
    out[:3, :3] = spin @ tilt @ turn
    out[:3, 3] = [0.0, 0.0, distance]
    return out


def project(points: np.ndarray, K: np.ndarray, viewmat: np.ndarray, distortion=(0, 0, 0, 0)) -> np.ndarray:
    """[n, 3] m -> [n, 2] px through a lens with radial (k1, k2) and tangential (p1, p2) distortion."""
    k1, k2, p1, p2 = distortion
    p = points @ viewmat[:3, :3].T + viewmat[:3, 3]
    x, y = p[:, 0] / p[:, 2], p[:, 1] / p[:, 2]
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2 * r2
    u = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    v = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    return np.stack([K[0, 0] * u + K[0, 2], K[1, 1] * v + K[1, 2]], 1)


def photograph(pixels: np.ndarray, width: int, height: int, blur: float) -> np.ndarray:
    """[H, W, 3] uint8: one soft spot in each channel, at [3, 2] px (pixel centres at +0.5)."""
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    spots = [
        np.exp(-((y[:, None] - v) ** 2 + (x[None] - u) ** 2) / (2 * blur**2)) for u, v in pixels
    ]  # fmt: skip
    return (250 * np.stack(spots, -1) + 0.5).astype(np.uint8)


def find(image) -> np.ndarray:  # [3, H, W] -> [3, 2] px
    """The middle of the spot in each channel."""
    values = np.clip(np.asarray(image, np.float64) - 0.2, 0, None)
    x, y = np.arange(values.shape[2]) + 0.5, np.arange(values.shape[1]) + 0.5
    total = values.sum((1, 2))
    return np.stack([(values.sum(1) * x).sum(1) / total, (values.sum(2) * y).sum(1) / total], 1)
