"""What an expression is likely to be before the landmarks speak: MediaPipe's scores, corrected."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omega_cli.track.landmarks import SCORES

# All ours, from looking at faces and their scores. (floor, ceiling): the score at rest and the score of the
# full action, mapped to 0 and 1. MediaPipe's blinks start at 0.1 to 0.2 and rarely pass 0.7.
_RANGE = {"eyeBlink": (0.15, 0.65), "eyeSquint": (0.2, 1.0), "browInnerUp": (0.05, 0.9)}
_SPREAD = {
    "eyeBlink": 0.12, "eyeLook": 0.15, "jawOpen": 0.12, "jawForward": 0.06, "mouthFunnel": 0.12,
    "mouthPucker": 0.15, "cheekPuff": 0.08, "cheekSquint": 0.1, "noseSneer": 0.1, "tongueOut": 0.02,
    "mouthRoll": 0.12, "mouthShrug": 0.12, "mouthClose": 0.08, "eyeSquint": 0.12, "eyeWide": 0.12,
    "brow": 0.2, "jaw": 0.1,
}  # fmt: skip
_DEFAULT_SPREAD = 0.18


def expression_prior(scores: np.ndarray, names: Sequence[str], E: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation [E] of each coefficient, given scores [52] in the order of SCORES.

    `names`: the model's expression names; a basis without names gets mean 0 and deviation 1.
    """
    if not names:
        return np.zeros(E), np.ones(E)
    of = dict(zip(SCORES, scores, strict=True))
    mean = np.zeros(len(names))
    spread = np.full(len(names), _DEFAULT_SPREAD)
    for i, name in enumerate(names):
        low, high = next((v for key, v in _RANGE.items() if name.startswith(key)), (0.0, 1.0))
        mean[i] = np.clip((of.get(name, 0.0) - low) / (high - low), 0, 1)
        spread[i] = next((v for key, v in _SPREAD.items() if name.startswith(key)), _DEFAULT_SPREAD)
    return mean, spread


def blink_of(scores: np.ndarray) -> np.ndarray:
    """How closed the subject's left and right eye are [2], 0 to 1."""
    low, high = _RANGE["eyeBlink"]
    both = scores[[SCORES.index("eyeBlinkLeft"), SCORES.index("eyeBlinkRight")]]
    return np.clip((both - low) / (high - low), 0, 1)
