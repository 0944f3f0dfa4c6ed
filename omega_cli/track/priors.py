"""What an expression is likely to be before the landmarks speak: MediaPipe's scores, corrected."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omega_cli.track.landmarks import SCORES, Face

# All ours, from looking at faces, their scores and lids. (floor, ceiling): the score at rest and the score of
# the full action, mapped to 0 and 1.
_RANGE = {"eyeSquint": (0.2, 1.0), "browInnerUp": (0.05, 0.9)}
_BLINK_SCORE = (0.2, 0.6)  # MediaPipe's blinks rest at 0.1 to 0.2 and often end at 0.55
_CLOSED_EYE, _DROOPING_EYE = 0.07, 0.18  # opening (height over width) of a closed eye, and of a lazy open one
_SPREAD = {
    "eyeBlink": 0.12, "eyeLook": 0.15, "jawOpen": 0.12, "jawForward": 0.06, "mouthFunnel": 0.12,
    "mouthPucker": 0.15, "cheekPuff": 0.08, "cheekSquint": 0.1, "noseSneer": 0.1, "tongueOut": 0.02,
    "mouthRoll": 0.12, "mouthShrug": 0.12, "mouthClose": 0.08, "eyeSquint": 0.12, "eyeWide": 0.12,
    "brow": 0.2, "jaw": 0.1,
}  # fmt: skip
_DEFAULT_SPREAD = 0.18


def expression_prior(
    scores: np.ndarray, closed: np.ndarray, names: Sequence[str], E: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation [E] of each coefficient.

    scores [52] in the order of SCORES; closed [2]: how closed the left and right eye are (`closed_eyes`);
    `names`: the model's expression names; a basis without names gets mean 0 and deviation 1.
    """
    if not names:
        return np.zeros(E), np.ones(E)
    of: dict[str, float] = dict(zip(SCORES, scores.tolist(), strict=True))
    mean = np.zeros(len(names))
    spread = np.full(len(names), _DEFAULT_SPREAD)
    for i, name in enumerate(names):
        low, high = next((v for key, v in _RANGE.items() if name.startswith(key)), (0.0, 1.0))
        mean[i] = np.clip((of.get(name, 0.0) - low) / (high - low), 0, 1)
        spread[i] = next((v for key, v in _SPREAD.items() if name.startswith(key)), _DEFAULT_SPREAD)
        side = 0 if name.endswith("Left") else 1
        if name.startswith("eyeBlink"):
            mean[i] = closed[side]
            spread[i] *= 1 - 0.75 * closed[side]  # lids must meet: landmarks of a closed eye leave a slit
        elif name.startswith(("eyeLook", "eyeSquint", "eyeWide")):
            mean[i] *= 1 - closed[side]  # a closed lid scores as a look down and as a squint, too
    return mean, spread


def closed_eyes(face: Face, open_eyes: np.ndarray | None = None) -> np.ndarray:
    """How closed the subject's left and right eye are [2], 0 to 1.

    open_eyes [2]: this person's usual opening, where a film has shown it. A single photo cannot tell
    a narrow eye from a half-closed one, so there the scores have half the say.
    """
    opening = face.eye_opening
    if open_eyes is not None:
        rest = 0.85 * open_eyes
        return np.clip((rest - opening) / np.maximum(rest - _CLOSED_EYE, 0.02), 0, 1)
    by_lids = np.clip((_DROOPING_EYE - opening) / (_DROOPING_EYE - _CLOSED_EYE), 0, 1)
    low, high = _BLINK_SCORE
    scores = face.scores[[SCORES.index("eyeBlinkLeft"), SCORES.index("eyeBlinkRight")]]
    return 0.5 * (by_lids + np.clip((scores - low) / (high - low), 0, 1))


def usual_opening(faces: Sequence[Face]) -> np.ndarray:
    """A person's open eyes [2] over a film: the 80th percentile of the opening, of faces not far turned."""
    seen = [face.eye_opening for face in faces if abs(face.yaw_deg) < 25] or [f.eye_opening for f in faces]
    return np.quantile(np.stack(seen), 0.8, axis=0)
