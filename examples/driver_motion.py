"""The scripted motion of examples/driver.mp4: what happens when, in ARKit shape weights and degrees.

`script(t)` is the whole truth; make_driver.py draws it and examples/driver_motion.npz records it.
"""

from __future__ import annotations

import numpy as np

FPS = 25
SECONDS = 6.0
BLINKS = (0.72, 1.96, 3.3, 4.56, 5.36)  # s, the moment the lids meet
BLINK_CLOSING, BLINK_HOLD, BLINK_OPENING = 0.10, 0.06, 0.16  # s
TURN_DEG = 25.0
# speech: (start s, length s, jawOpen, funnel, pucker, smile-wide), one row a syllable
SYLLABLES = (
    (0.95, 0.22, 0.42, 0.00, 0.00, 0.10),
    (1.15, 0.20, 0.22, 0.45, 0.10, 0.00),
    (1.38, 0.24, 0.50, 0.05, 0.00, 0.20),
    (1.66, 0.20, 0.15, 0.15, 0.55, 0.00),
    (1.90, 0.26, 0.46, 0.00, 0.00, 0.10),
    (2.14, 0.20, 0.28, 0.40, 0.00, 0.00),
    (2.36, 0.28, 0.58, 0.00, 0.00, 0.15),
    (4.30, 0.24, 0.38, 0.30, 0.00, 0.00),
    (4.56, 0.24, 0.18, 0.10, 0.50, 0.00),
    (4.80, 0.30, 0.54, 0.00, 0.00, 0.20),
)


def bump(t: np.ndarray, start: float, length: float) -> np.ndarray:
    """A smooth hill, 0 outside [start, start + length], 1 in the middle."""
    x = np.clip((t - start) / length, 0.0, 1.0)
    return np.sin(np.pi * x) ** 2


def plateau(t: np.ndarray, start: float, end: float, ramp: float) -> np.ndarray:
    """0, a smooth rise that takes `ramp` s after `start`, 1, a smooth fall that ends at `end`."""

    def ease(x: np.ndarray) -> np.ndarray:
        x = np.clip(x, 0.0, 1.0)
        return x * x * (3 - 2 * x)

    return ease((t - start) / ramp) * ease((end - t) / ramp)


def times() -> np.ndarray:
    """Frame times [T], s."""
    return np.arange(round(FPS * SECONDS)) / FPS


def script(t: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Frame times [T] s -> (shape name -> weight [T], angle name -> degrees [T]).

    Angles: yaw (positive: towards the subject's left), pitch (positive: chin down), roll (positive:
    towards the subject's right shoulder in the picture's plane), gaze_yaw, gaze_pitch (eyes in the head).
    """
    blink = np.zeros_like(t)
    for meet in BLINKS:
        closed = plateau(
            t, meet - BLINK_CLOSING - BLINK_HOLD / 2, meet + BLINK_HOLD / 2 + BLINK_OPENING, BLINK_CLOSING
        )
        blink = np.maximum(blink, closed)
    jaw, funnel, pucker, wide = (np.zeros_like(t) for _ in range(4))
    for start, length, *weights in SYLLABLES:
        hill = bump(t, start, length)
        for track, weight in zip((jaw, funnel, pucker, wide), weights, strict=True):
            np.maximum(track, weight * hill, out=track)
    smile = 0.75 * plateau(t, 2.85, 4.2, 0.35)
    raise_brows = 0.85 * plateau(t, 2.0, 2.75, 0.2) + 0.7 * plateau(t, 4.7, 5.15, 0.15)
    shapes = {
        "eyeBlinkLeft": blink,
        "eyeBlinkRight": blink,
        "jawOpen": jaw,
        "mouthFunnel": funnel,
        "mouthPucker": pucker,
        "mouthSmileLeft": np.maximum(smile, wide),
        "mouthSmileRight": np.maximum(smile, wide),
        "cheekSquintLeft": 0.5 * smile,
        "cheekSquintRight": 0.5 * smile,
        "browInnerUp": raise_brows,
        "browOuterUpLeft": raise_brows,
        "browOuterUpRight": raise_brows,
    }
    yaw = TURN_DEG * (plateau(t, 2.5, 4.0, 0.55) - plateau(t, 3.95, 5.5, 0.6))
    pitch = 8.0 * np.sin(2 * np.pi * (t - 0.9) / 1.1) * plateau(t, 0.9, 2.0, 0.3)
    roll = 6.0 * plateau(t, 1.7, 2.6, 0.3) - 3.0 * plateau(t, 4.2, 5.3, 0.4)
    gaze_yaw = 10.0 * (plateau(t, 2.35, 2.95, 0.15) - plateau(t, 3.75, 4.3, 0.15))
    gaze_pitch = -4.0 * plateau(t, 1.2, 1.7, 0.12)
    angles = {"yaw": yaw, "pitch": pitch, "roll": roll, "gaze_yaw": gaze_yaw, "gaze_pitch": gaze_pitch}
    return shapes, angles
