"""Motion over time: gaps bridged, jitter calmed with no delay, blinks kept sharp."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation, Slerp

# Gaussian widths, s; ours: below the time scale of speech (a syllable opens the mouth for 0.15 s)
POSE_SECONDS, EXPRESSION_SECONDS, BLINK_SECONDS, GAZE_SECONDS = 0.05, 0.033, 0.012, 0.04


def fill_values(values: np.ndarray, times: np.ndarray, valid: np.ndarray, at: np.ndarray) -> np.ndarray:
    """values [T, C] seen at times [T] where valid, interpolated linearly to times `at` [T2]; ends hold."""
    seen, known = times[valid], values[valid]
    return np.stack([np.interp(at, seen, known[:, c]) for c in range(values.shape[1])], axis=1)


def fill_rotations(rotvecs: np.ndarray, times: np.ndarray, valid: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Axis-angles [T, 3] likewise, along the shortest arc (slerp)."""
    seen, known = times[valid], Rotation.from_rotvec(rotvecs[valid])
    if len(seen) == 1:
        return np.repeat(known.as_rotvec(), len(at), axis=0)
    return Slerp(seen, known)(np.clip(at, seen[0], seen[-1])).as_rotvec()


def smooth_values(values: np.ndarray, fps: float, seconds: float | np.ndarray) -> np.ndarray:
    """Zero-phase Gaussian of each column of [T, C]; `seconds` [C] or one width for all. 0: unchanged.

    A second pass adds the smoothed remainder back (twicing): peaks keep their height, jitter still goes.
    """
    widths = np.broadcast_to(np.asarray(seconds, dtype=np.float64), values.shape[1:])
    out = values.astype(np.float64).copy()
    for width in np.unique(widths):
        if width <= 0 or len(values) < 3:
            continue
        columns = widths == width
        once = gaussian_filter1d(out[:, columns], width * fps, axis=0, mode="nearest")
        rest = gaussian_filter1d(out[:, columns] - once, width * fps, axis=0, mode="nearest")
        out[:, columns] = once + rest
    return out


def smooth_rotations(rotvecs: np.ndarray, fps: float, seconds: float) -> np.ndarray:
    """Axis-angles [T, 3] smoothed as small rotations about their mean."""
    if len(rotvecs) < 3 or seconds <= 0:
        return rotvecs
    rotations = Rotation.from_rotvec(rotvecs)
    mean = rotations.mean()
    calm = smooth_values((mean.inv() * rotations).as_rotvec(), fps, seconds)
    return (mean * Rotation.from_rotvec(calm)).as_rotvec()


def expression_widths(names: tuple[str, ...], E: int, strength: float) -> np.ndarray:
    """Smoothing width in s of each coefficient [E]: lids move fastest."""
    widths = np.full(E, EXPRESSION_SECONDS)
    for i, name in enumerate(names):
        if name.startswith(("eyeBlink", "eyeWide", "eyeSquint")):
            widths[i] = BLINK_SECONDS
    return widths * strength


def gaps(valid: np.ndarray) -> list[tuple[int, int]]:
    """Runs of False in valid [T] as (first, last) frame numbers."""
    padded = np.concatenate([[True], valid, [True]]).astype(int)
    starts, ends = np.flatnonzero(np.diff(padded) == -1), np.flatnonzero(np.diff(padded) == 1)
    return [(int(a), int(b) - 1) for a, b in zip(starts, ends, strict=True)]
