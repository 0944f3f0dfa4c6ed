"""The second landmark backend: 68 points from the face-alignment package (Bulat & Tzimiropoulos 2017).

Not a dependency, and its weights are the user's file: both are looked for when asked for, nothing is
downloaded. The face's place and the expression scores still come from the face landmarker.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from omega_cli.errors import OmegaError

Aligner = Callable[[np.ndarray, tuple[float, float, float, float]], tuple[np.ndarray, np.ndarray]]

NETWORK = "2DFAN-4"
_SFD_SCALE = 195.0  # the package sizes its crop for boxes of its own detector, of which this is the reference


def load_aligner(device: str = "cpu") -> Aligner:
    """A function (rgb [H, W, 3] uint8, face box) -> points [68, 2] px and confidence [68] in [0, 1].

    Raises OmegaError when the package or its weights are not there.
    """
    try:
        import face_alignment
        from face_alignment.api import models_urls
    except ImportError as error:
        raise OmegaError(
            f"--landmarks face-alignment needs a package that is not usable here ({error}).",
            "Run `pip install --no-deps face-alignment` and what it misses, or use --landmarks mediapipe.",
        ) from error
    _require_weights(models_urls[NETWORK])
    aligner = face_alignment.FaceAlignment(
        face_alignment.LandmarksType.TWO_D, device=device, face_detector="folder", compile=False
    )
    aligner.face_detector = SimpleNamespace(reference_scale=_SFD_SCALE)  # boxes are given, none are detected

    def align(rgb: np.ndarray, box: tuple[float, float, float, float]) -> tuple[np.ndarray, np.ndarray]:
        points, scores, _ = aligner.get_landmarks_from_image(
            rgb, detected_faces=[np.array(box)], return_landmark_score=True
        )
        confidence = np.asarray(scores[0], np.float64).ravel().clip(0, 1)
        return np.asarray(points[0], np.float64), confidence

    return align


def _require_weights(url: str) -> None:
    import os

    import torch

    name = url.rsplit("/", 1)[-1]
    path = os.path.join(torch.hub.get_dir(), "checkpoints", name)
    if not os.path.isfile(path):
        raise OmegaError(
            f"--landmarks face-alignment needs its weights, and {path} is not there.",
            f"Get {name} from the package's authors ({url}), or use --landmarks mediapipe.",
        )
