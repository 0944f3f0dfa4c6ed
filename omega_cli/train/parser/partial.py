"""What is sure about a photograph without any parser: matte and landmarks allow some labels in each pixel.

Allowed labels are bits: a pixel's number is the sum of 2^label over the labels that it may bear; 0 says
nothing, and costs nothing in training.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from omega_cli.head.landmarks import FACE_OVAL
from omega_cli.track import parsing as labels
from omega_cli.train.parser.pack import Portrait

# MediaPipe's contours as closed polygons: right and left of the subject
EYES = (
    (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    (362, 398, 384, 385, 386, 387, 388, 466, 263, 249, 390, 373, 374, 380, 381, 382),
)  # fmt: skip
BROWS = (
    (70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
    (300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
)  # fmt: skip
_OUTER_UP = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
_OUTER_LOW = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
_INNER_UP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
_INNER_LOW = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
UPPER_LIP = _OUTER_UP + _INNER_UP[::-1]
LOWER_LIP = _OUTER_LOW + _INNER_LOW[::-1]
INNER_MOUTH = _INNER_UP + _INNER_LOW[::-1]
NOSE = (168, 122, 196, 236, 198, 209, 49, 48, 64, 98, 97, 2, 326, 327, 294, 278, 279, 429, 420, 456, 419, 351)
CHIN_PATCH = (32, 194, 18, 418, 262, 396, 175, 171)  # beards are skin, as in the studio
CHIN, NOSE_TIP = 152, 1
_SURE, _NOT = 0.9, 0.08  # of the matte: a person, and none


def bits(*allowed: int) -> int:
    return sum(1 << label for label in allowed)


EVERY = bits(*range(labels.LABELS))
PERSON = EVERY - bits(labels.BACKGROUND)
_ABOVE = bits(labels.HAIR, labels.HAT, labels.SKIN)
_BESIDE = bits(
    labels.HAIR,
    labels.HAT,
    labels.GLASSES,
    labels.SKIN,
    labels.EARS,
    labels.EARRING,
    labels.NECK,
    labels.CLOTH,
)
_BELOW = bits(labels.NECK, labels.NECKLACE, labels.CLOTH, labels.HAIR, labels.SKIN, labels.EARRING)
_LOW = bits(labels.NECK, labels.NECKLACE, labels.CLOTH, labels.HAIR)


def credible(portrait: Portrait) -> bool:
    """Whether the matte holds the face: else it cut out something else, or nothing."""
    oval = _filled(portrait.matte.shape, portrait.points, FACE_OVAL)
    return bool(oval.any()) and float(portrait.matte[oval].mean()) > 0.8


def allowed_labels(portrait: Portrait) -> np.ndarray:  # [S, S] int32
    """The labels that each pixel may bear. What is near any border of knowledge stays open."""
    points = portrait.points
    size = float(np.linalg.norm(points[10] - points[CHIN]))  # the face's height, px
    out = np.zeros(portrait.matte.shape, np.int32)
    person, other = portrait.matte > _SURE, portrait.matte < _NOT
    rim = max(1, round(0.03 * size))
    out[_shrunk(other, 2 * rim)] = bits(labels.BACKGROUND)
    down, along = _height(portrait, size)
    solid = _shrunk(person, rim)
    oval = _filled(out.shape, points, FACE_OVAL)
    outside = solid & ~_grown(oval, round(0.05 * size))
    eyes, chin = _level(points, EYES[0] + EYES[1], down, along), _level(points, (CHIN,), down, along)
    y = down
    out[outside & (y < eyes)] = _ABOVE
    out[outside & (y >= eyes - 0.1 * size) & (y < chin)] = _BESIDE
    out[outside & (y >= chin)] = _BELOW
    out[outside & (y >= chin + 0.25 * size)] = _LOW
    far = solid & ~_grown(oval, round(0.25 * size)) & (y < eyes)
    out[far] = bits(labels.HAIR, labels.HAT)
    _face(out, portrait, oval, size, y, eyes)
    out[~portrait.photo] = 0
    return out


def _face(
    out: np.ndarray, portrait: Portrait, oval: np.ndarray, size: float, y: np.ndarray, eyes: float
) -> None:
    """The face's own parts, in place."""
    points, shape = portrait.points, out.shape
    parts = [*EYES, *BROWS, NOSE, UPPER_LIP, LOWER_LIP, INNER_MOUTH]
    near = np.zeros(shape, bool)
    for part in parts:
        near |= _grown(_filled(shape, points, part), max(2, round(0.025 * size)))
    inner, deep = _shrunk(oval, round(0.04 * size)), _shrunk(oval, round(0.14 * size))
    bare = inner & ~near
    out[inner & (out == 0)] = PERSON
    glasses = bits(labels.GLASSES)
    lower = y > _level(points, (NOSE_TIP,), y, None)
    worn = np.where((y > eyes - 0.22 * size) & ~lower, glasses, 0)  # where spectacles sit
    out[bare & (y < eyes)] = bits(labels.SKIN, labels.HAIR, labels.HAT)
    out[bare & (y >= eyes)] = bits(labels.SKIN, labels.HAIR)
    out[bare & deep & (y < eyes)] = bits(labels.SKIN, labels.HAIR)
    out[bare & deep & (y >= eyes)] = bits(labels.SKIN)
    out[bare] |= worn[bare]
    out[_filled(shape, points, CHIN_PATCH) & ~near] = bits(labels.SKIN)
    edge = max(1, round(0.012 * size))
    for part in BROWS:
        brow = bits(labels.BROWS, labels.HAIR) | glasses
        out[_shrunk(_filled(shape, points, part), edge)] = brow
    for part in EYES:
        out[_shrunk(_filled(shape, points, part), edge)] = bits(labels.EYES) | glasses
    nose = _shrunk(_filled(shape, points, NOSE), round(0.02 * size))
    out[nose] = bits(labels.NOSE) | glasses
    out[nose & lower] = bits(labels.NOSE)
    for part, label in ((UPPER_LIP, labels.UPPER_LIP), (LOWER_LIP, labels.LOWER_LIP)):
        out[_shrunk(_filled(shape, points, part), edge)] = bits(label)
    out[_shrunk(_filled(shape, points, INNER_MOUTH), edge)] = bits(labels.MOUTH_INSIDE)


def _height(portrait: Portrait, size: float) -> tuple[np.ndarray, np.ndarray]:
    """How far down the head's own axis each pixel lies [S, S] px, and that axis [2]."""
    axis = (portrait.points[CHIN] - portrait.points[10]) / max(size, 1e-6)
    y, x = np.mgrid[: portrait.matte.shape[0], : portrait.matte.shape[1]].astype(np.float32) + 0.5
    return x * axis[0] + y * axis[1], axis


def _level(points: np.ndarray, of: Iterable[int], down: np.ndarray, axis: np.ndarray | None) -> float:
    """`down` at the mean of some landmarks."""
    x, y = points[list(of)].mean(0)
    if axis is not None:
        return float(x * axis[0] + y * axis[1])
    row, column = (int(np.clip(v, 0, n - 1)) for v, n in ((y, down.shape[0]), (x, down.shape[1])))
    return float(down[row, column])


def _filled(shape: tuple[int, ...], points: np.ndarray, contour: Iterable[int]) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [(points[list(contour)] * 16).round().astype(np.int32)], 1, shift=4)
    return mask > 0


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def _grown(mask: np.ndarray, radius: int) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), _disc(radius)) > 0


def _shrunk(mask: np.ndarray, radius: int) -> np.ndarray:
    return cv2.erode(mask.astype(np.uint8), _disc(radius), borderValue=1) > 0
