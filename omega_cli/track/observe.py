"""From detected landmarks to what the solver is told: which points count, how much, in which direction."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from omega_cli.geometry.camera import Camera
from omega_cli.head.landmarks import FACE_OVAL
from omega_cli.track.fit import View
from omega_cli.track.landmarks import LEFT_IRIS, RIGHT_IRIS, Face
from omega_cli.track.priors import closed_eyes, expression_prior

SIZE, FOCAL, DISTANCE = 512, 1280.0, 1.0
"""The source camera: SIZE px span 0.40 m at DISTANCE m in front of it; K[0,0] = FOCAL px. With another focal
length it stands as much nearer or farther."""

# Standard deviation of a landmark in shares of the face size, per group; all ours. The 478 points are far
# from independent, so these are wider than a point's own jitter.
_POINT, _LIPS, _EYES, _IRIS, _CONTOUR = 0.014, 0.011, 0.011, 0.008, 0.02
_SLIDE = 6.0  # a contour point may slide along the contour this much more freely than leave it

LIPS = (
    0, 11, 12, 13, 14, 15, 16, 17, 37, 38, 39, 40, 41, 42, 61, 62, 72, 73, 74, 76, 77, 78, 80, 81, 82, 84, 85,
    86, 87, 88, 89, 90, 91, 95, 96, 146, 178, 179, 180, 181, 183, 184, 185, 191, 267, 268, 269, 270, 271, 272,
    291, 292, 302, 303, 304, 306, 307, 308, 310, 311, 312, 314, 315, 316, 317, 318, 319, 320, 321, 324, 325,
    375, 402, 403, 404, 405, 407, 408, 409, 415,
)  # fmt: skip
LEFT_LIDS = (249, 263, 362, 373, 374, 380, 381, 382, 384, 385, 386, 387, 388, 390, 398, 466)
RIGHT_LIDS = (7, 33, 133, 144, 145, 153, 154, 155, 157, 158, 159, 160, 161, 163, 173, 246)


def source_camera(focal: float = FOCAL) -> tuple[np.ndarray, np.ndarray]:
    """K [3, 3] and viewmat [4, 4] of the camera that a crop is seen by: on +z, looking at -z; focal: px."""
    K = np.array([[focal, 0, SIZE / 2], [0, focal, SIZE / 2], [0, 0, 1]])
    viewmat = np.diag([1.0, -1.0, -1.0, 1.0])
    viewmat[2, 3] = DISTANCE * focal / FOCAL
    return K, viewmat


def crop_camera(focal: float = FOCAL) -> Camera:
    """`source_camera` as a camera of the world that the head was fitted in."""
    K, viewmat = (torch.tensor(matrix, dtype=torch.float32) for matrix in source_camera(focal))
    return Camera(K, viewmat, SIZE, SIZE, "pinhole", "source")


def face_view(
    face: Face, valid: np.ndarray, names: Sequence[str], E: int, open_eyes: np.ndarray | None = None
) -> View:
    """The solver's view of 478 landmarks in crop px. valid [478]: False where the head has no such point;
    open_eyes [2]: the person's usual eye opening, where it is known."""
    size = face.size * _uncertainty(face)
    whiten = np.tile(np.eye(2) / (_POINT * size), (478, 1, 1))
    whiten[list(LIPS)] = np.eye(2) / (_LIPS * size)
    whiten[list(LEFT_LIDS + RIGHT_LIDS)] = np.eye(2) / (_EYES * size)
    contour = list(FACE_OVAL)
    whiten[contour] = _contour_whitening(face, size)
    closed = closed_eyes(face, open_eyes)
    for iris, shut in zip((LEFT_IRIS, RIGHT_IRIS), closed, strict=True):
        whiten[iris : iris + 5] = np.eye(2) / (_IRIS * size) * math.sqrt(max(0.0, 1 - 2.5 * shut) / 5)
    whiten[~valid] = 0
    mean, spread = expression_prior(face.scores, closed, names, E)
    K, viewmat = source_camera()
    return View(face.points.copy(), whiten, mean, spread, K, viewmat)


def _uncertainty(face: Face) -> float:
    """Factor on every landmark's deviation: the network guesses what a turned face hides."""
    return 1.2 * (1 + 0.8 * abs(math.sin(math.radians(face.yaw_deg))))  # ours


def _contour_whitening(face: Face, size: float) -> np.ndarray:  # [36, 2, 2]
    """Contour points may slide along the contour. On the far side of a turned face MediaPipe draws the
    silhouette, which is another place of the skin: there they count little."""
    points = face.points[list(FACE_OVAL)]
    tangent = np.roll(points, -1, axis=0) - np.roll(points, 1, axis=0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    side = (points[:, 0] - face.centre[0]) / (0.5 * face.size)  # -1 image left … 1 image right
    far = np.clip(side * math.sin(math.radians(face.yaw_deg)) * 3, 0, 1)
    strength = (1 - 0.85 * far) / (_CONTOUR * size)
    return np.stack([normal * strength[:, None], tangent * strength[:, None] / _SLIDE], axis=1)


def ibug_view(
    points: np.ndarray, confidence: np.ndarray, valid: np.ndarray, face: Face, names: Sequence[str], E: int,
    open_eyes: np.ndarray | None = None,
) -> View:  # fmt: skip
    """The same for the 68 iBUG points [68, 2] with confidence [68] in [0, 1]; scores still from `face`."""
    size = face.size * _uncertainty(face)
    strength = np.sqrt(np.clip(confidence, 0, 1)) / (_LIPS * size)
    strength[:17] *= _LIPS / _CONTOUR
    whiten = np.eye(2) * strength[:, None, None]
    whiten[~valid] = 0
    mean, spread = expression_prior(face.scores, closed_eyes(face, open_eyes), names, E)
    K, viewmat = source_camera()
    return View(points.copy(), whiten, mean, spread, K, viewmat)
