"""Faces in a picture: 478 points, 52 expression scores and a rough pose each (MediaPipe Tasks)."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from omega_cli.head.arkit import ARKIT_NAMES
from omega_cli.head.landmarks import IBUG_INNER, jaw_line

SCORES = tuple(sorted(ARKIT_NAMES))
"""Names of `Face.scores`, alphabetical; the landmarker knows all but tongueOut, which stays 0."""

LEFT_IRIS, RIGHT_IRIS = 473, 468  # the subject's left and right pupil among the 478 points

# upper lid, the lower lid below it, corners: the subject's left eye, then the right
_EYE_POINTS = (
    ((385, 386, 387), (380, 374, 373), (263, 362)),
    ((160, 159, 158), (144, 145, 153), (33, 133)),
)
_TILE_SHARES = (0.62, 0.4, 0.25, 0.16, 0.1)  # of the long side; each level finds faces ~1.6 x smaller  # ours
_ALWAYS = 2  # levels searched even when a face is known: a group is to be noticed
_DETECT_SIDE = 2048  # px; tiles are cut from the picture reduced to this
_REFINE_SPAN = 2.2  # a found face is looked at again in a square of this many face sizes
_MIN_SIZE = 32  # px; below it anything with two dots is a face
_MIN_AGREEMENT = 0.55  # overlap of the first and the second look; below it the find was a mirage


@dataclass(frozen=True)
class Face:
    """One face. points [478, 2] px (x right, y down, edges at 0 and the size); depth [478] px, small is
    near; scores [52] in [0, 1] in the order of SCORES; rotation [3, 3] head -> camera (y up, z back)."""

    points: np.ndarray
    depth: np.ndarray
    scores: np.ndarray
    rotation: np.ndarray

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 of the points, px."""
        (x0, y0), (x1, y1) = self.points.min(0), self.points.max(0)
        return float(x0), float(y0), float(x1), float(y1)

    @property
    def size(self) -> float:
        """Longer side of the box, px."""
        x0, y0, x1, y1 = self.box
        return max(x1 - x0, y1 - y0)

    @property
    def centre(self) -> tuple[float, float]:
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / 2, (y0 + y1) / 2

    @property
    def yaw_deg(self) -> float:
        """Turn of the head about its vertical axis: 0 frontal, positive towards the subject's left."""
        return math.degrees(math.atan2(self.rotation[0, 2], self.rotation[2, 2]))

    @property
    def eye_opening(self) -> np.ndarray:
        """Height over width of the subject's left and right eye [2]: 0.03 closed, 0.2 to 0.45 open."""
        upper, lower, corners = (self.points[list(np.ravel(ids))] for ids in zip(*_EYE_POINTS, strict=True))
        height = np.linalg.norm(upper - lower, axis=1).reshape(2, 3).mean(1)
        return height / np.maximum(np.linalg.norm(corners[::2] - corners[1::2], axis=1), 1e-6)

    def moved(self, scale: float, shift: tuple[float, float]) -> Face:
        """The same face in another picture: points * scale + shift."""
        return Face(
            self.points * scale + np.asarray(shift, self.points.dtype),
            self.depth * scale, self.scores, self.rotation,
        )  # fmt: skip


@contextlib.contextmanager
def silenced_stderr() -> Iterator[None]:
    """Mute the C++ side's start-up chatter, which no log level reaches: descriptor 2 itself is turned."""
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


class Landmarker:
    """The face landmarker. mode "image": frames are unrelated; "video": each continues the last.

    A context manager: the C++ graph must be closed while the interpreter is still whole.
    """

    def __init__(self, task: bytes, mode: Literal["image", "video"] = "image", faces: int = 5) -> None:
        with silenced_stderr():
            import mediapipe as mp
            from mediapipe.tasks.python import BaseOptions, vision

            self._image = lambda rgb: mp.Image(image_format=mp.ImageFormat.SRGB, data=rgb)
            self._video = mode == "video"
            options = vision.FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_buffer=task),
                running_mode=vision.RunningMode.VIDEO if self._video else vision.RunningMode.IMAGE,
                num_faces=faces,
                output_face_blendshapes=True,
                output_facial_transformation_matrixes=True,
            )
            self._graph: Any = vision.FaceLandmarker.create_from_options(options)
        self._loud = True

    def __enter__(self) -> Landmarker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._graph is not None:
            self._graph.close()
            self._graph = None

    def detect(self, rgb: np.ndarray, milliseconds: int = 0) -> list[Face]:
        """Faces of rgb [H, W, 3] uint8, largest first. Video mode: `milliseconds` must increase."""
        image = self._image(np.ascontiguousarray(rgb))
        with silenced_stderr() if self._loud else contextlib.nullcontext():
            found = (
                self._graph.detect_for_video(image, milliseconds)
                if self._video
                else self._graph.detect(image)
            )
        self._loud = False  # each graph chats once, at its first frame
        height, width = rgb.shape[:2]
        faces = []
        for points, scores, matrix in zip(
            found.face_landmarks, found.face_blendshapes, found.facial_transformation_matrixes, strict=True
        ):
            xyz = np.array([(p.x, p.y, p.z) for p in points]) * (width, height, width)
            named = {score.category_name: score.score for score in scores}
            values = np.array([named.get(name, 0.0) for name in SCORES])
            rotation = np.asarray(matrix, dtype=np.float64)[:3, :3]
            faces.append(Face(xyz[:, :2], xyz[:, 2], values, rotation / np.cbrt(np.linalg.det(rotation))))
        return sorted(faces, key=lambda face: -face.size)


def find_faces(rgb: np.ndarray, landmarker: Landmarker, at_least: int = 1) -> list[Face]:
    """Every face of a photo rgb [H, W, 3] that a second, closer look confirms; largest first.

    The detector sees 128 x 128 pixels, so faces under a sixth of the picture escape it. Two rounds of
    overlapping tiles look for others beside the first; while fewer than `at_least` are found, ever smaller
    tiles are searched. Points come from the closer look.
    """
    scale = min(1.0, _DETECT_SIDE / max(rgb.shape[:2]))
    small = _resized(rgb, scale)
    faces = _confirmed(landmarker.detect(small), small, rgb, scale, landmarker, [])
    for level, share in enumerate(_TILE_SHARES):
        if len(faces) >= at_least and level >= _ALWAYS:
            break
        for x, y, tile in _tiles(small, share):
            found = [face.moved(1.0, (x, y)) for face in landmarker.detect(tile)]
            faces = _confirmed(found, small, rgb, scale, landmarker, faces)
    return sorted(faces, key=lambda face: -face.size)


def _resized(rgb: np.ndarray, scale: float) -> np.ndarray:
    import cv2

    return rgb if scale >= 1 else cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _tiles(rgb: np.ndarray, share: float) -> Iterator[tuple[int, int, np.ndarray]]:
    """Square tiles with half overlap that cover the picture; none when they would be too small to help."""
    height, width = rgb.shape[:2]
    side = int(max(height, width) * share)
    if side < 64:
        return
    for y in _starts(height, side):
        for x in _starts(width, side):
            yield x, y, rgb[y : y + side, x : x + side]


def _starts(length: int, side: int) -> list[int]:
    steps = max(0, math.ceil((length - side) / (side / 2)))
    return [round(i * (length - side) / steps) for i in range(steps + 1)] if steps else [0]


def _confirmed(
    found: Sequence[Face], small: np.ndarray, full: np.ndarray, scale: float, landmarker: Landmarker,
    known: list[Face],
) -> list[Face]:  # fmt: skip
    """`known` plus those of `found` (px of `small`) that show again in a close crop of the full picture."""
    faces = list(known)
    for face in found:
        face = face.moved(1 / scale, (0.0, 0.0))
        if any(_overlap(face, other) > 0.3 for other in faces):
            continue
        closer = look_closer(full, face, landmarker)
        if closer is None or closer.size < _MIN_SIZE or _overlap(face, closer) < _MIN_AGREEMENT:
            continue
        if not any(_overlap(closer, other) > 0.3 for other in faces):
            faces.append(closer)
    return faces


def look_closer(rgb: np.ndarray, face: Face, landmarker: Landmarker) -> Face | None:
    """The face again, from two crops around it that differ in scale: points and scores are their mean.

    The landmark network's error changes with its own crop: two looks halve its variance. None if the
    face does not show again.
    """
    looks = []
    for span in (_REFINE_SPAN, _REFINE_SPAN * 1.18):
        crop, scale, shift = square_crop(rgb, face.centre, span * face.size, 512)
        seen = [f.moved(1 / scale, (-shift[0] / scale, -shift[1] / scale)) for f in landmarker.detect(crop)]
        if not seen:
            return None
        looks.append(max(seen, key=lambda f: _overlap(f, face)))
    u, _, v = np.linalg.svd(looks[0].rotation + looks[1].rotation)
    return Face(
        points=(looks[0].points + looks[1].points) / 2,
        depth=(looks[0].depth + looks[1].depth) / 2,
        scores=(looks[0].scores + looks[1].scores) / 2,
        rotation=u @ v,
    )


def _overlap(a: Face, b: Face) -> float:
    """Intersection over union of two faces' boxes."""
    ax0, ay0, ax1, ay1 = a.box
    bx0, by0, bx1, by1 = b.box
    both = max(0.0, min(ax1, bx1) - max(ax0, bx0)) * max(0.0, min(ay1, by1) - max(ay0, by0))
    return both / max((ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - both, 1e-9)


def square_crop(
    rgb: np.ndarray, centre: tuple[float, float], side: float, size: int, mirror: bool = False
) -> tuple[np.ndarray, float, tuple[float, float]]:
    """A square of `side` px around `centre`, resampled to `size`. Outside the picture its edge repeats, or
    the picture is mirrored.

    Returns the crop [size, size, C], and scale and shift with crop px = px * scale + shift.
    """
    import cv2

    scale = size / side
    shift = (size / 2 - centre[0] * scale, size / 2 - centre[1] * scale)
    source = rgb
    if scale < 0.5:  # warpAffine samples points: shrink by area first, or fine texture turns to noise
        half = (max(1, round(2 * scale * rgb.shape[1])), max(1, round(2 * scale * rgb.shape[0])))
        source = cv2.resize(rgb, half, interpolation=cv2.INTER_AREA)
    kx, ky = source.shape[1] / rgb.shape[1], source.shape[0] / rgb.shape[0]
    # pixel centres are at +0.5 in our coordinates and at integers in OpenCV's
    matrix = np.array(
        [
            [scale / kx, 0, shift[0] + 0.5 * scale / kx - 0.5],
            [0, scale / ky, shift[1] + 0.5 * scale / ky - 0.5],
        ]
    )
    border = cv2.BORDER_REFLECT_101 if mirror else cv2.BORDER_REPLICATE
    crop = cv2.warpAffine(source, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=border)
    return crop, scale, shift


def ibug_points(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 68 iBUG points of 478 MediaPipe points [478, 2]: points [68, 2] and scores [68].

    The jaw line is spaced evenly along MediaPipe's face contour, whose points are not iBUG's: score 0.5.
    """
    out = np.empty((68, 2), points.dtype)
    out[17:] = points[list(IBUG_INNER)]
    for line, target in zip(jaw_line(), (range(8, -1, -1), range(8, 17)), strict=True):
        path = points[line]
        length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
        at = np.linspace(0, length[-1], 9)
        out[list(target)] = np.stack([np.interp(at, length, path[:, i]) for i in (0, 1)], axis=1)
    return out, np.where(np.arange(68) < 17, 0.5, 1.0)
