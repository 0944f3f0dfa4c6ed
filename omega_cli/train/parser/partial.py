"""What is sure about a photograph without any parser: matte, landmarks and colours allow some labels in
each pixel.

Allowed labels are bits: a pixel's number is the sum of 2^label over the labels that it may bear; 0 says
nothing, and costs nothing in training. A set of two common labels teaches little, and a network that is
taught many such sets settles on one of the two everywhere: so colours decide between skin and hair where
they can (`colours`), and where they cannot nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from omega_cli.head.landmarks import FACE_OVAL
from omega_cli.track import parsing as labels
from omega_cli.train.parser import colours
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
CHEEKS = ((116, 117, 118, 119, 100, 142, 203, 206, 207, 187, 123),
          (345, 346, 347, 348, 329, 371, 423, 426, 427, 411, 352))  # fmt: skip
CHIN, NOSE_TIP = 152, 1
_SURE, _NOT = 0.7, 0.08  # of the matte: a person, and none
_FOREIGN = 6.0  # nats less likely as skin than the oddest parts of the cheeks  # ours
CLEAR = 4.0  # nats for skin or hair that decide  # ours
_PLACE, _PLACE_MOST = 40.0, 5.0  # nats of prior per face height inside the oval, and at most  # ours


def bits(*allowed: int) -> int:
    return sum(1 << label for label in allowed)


EVERY = bits(*range(labels.LABELS))
PERSON = EVERY - bits(labels.BACKGROUND)
_TOP = bits(labels.HAIR, labels.HAT)
_BARE_BESIDE = bits(labels.SKIN, labels.EARS, labels.EARRING)


@dataclass(frozen=True)
class Places:
    """Of one portrait. size: the face's height, px; down, across [S, S]: px along the head's axis, and from
    it; oval [S, S] bool: FACE_OVAL filled; inside [S, S]: px from its border, negative outside; solid: surely
    a person; near: eyes, brows, nose and mouth with a rim; eyes, brows, nose, chin: their `down`."""

    size: float
    down: np.ndarray
    across: np.ndarray
    oval: np.ndarray
    inside: np.ndarray
    solid: np.ndarray
    near: np.ndarray
    eyes: float
    brows: float
    nose: float
    chin: float


@dataclass(frozen=True)
class Evidence:
    """odds [S, S] nats: positive where the colour says skin rather than hair, and, above the eyes, the place
    too; told: whether colours tell; foreign [S, S] bool: surely not of the skin's colour."""

    odds: np.ndarray
    told: bool
    foreign: np.ndarray


def credible(portrait: Portrait) -> bool:
    """Whether the matte holds the face: else it cut out something else, or nothing."""
    oval = filled(portrait.matte.shape, portrait.points, FACE_OVAL)
    return bool(oval.any()) and float(portrait.matte[oval].mean()) > 0.8


def allowed_labels(portrait: Portrait) -> np.ndarray:  # [S, S] int32
    """The labels that each pixel may bear. What is near any border of knowledge stays open."""
    out = np.zeros(portrait.matte.shape, np.int32)
    at = places(portrait)
    rim = max(1, round(0.03 * at.size))
    # mattes lose shoulders, so what is no person is only known higher up
    empty = _shrunk(portrait.matte < _NOT, 2 * rim) & (at.down < at.nose)
    out[empty] = bits(labels.BACKGROUND)
    told = skin_or_hair(portrait, at)
    skin, hair = told.odds > CLEAR, hanging(told.odds < -CLEAR, at)
    _around(out, at, skin, hair, told)
    _face(out, portrait, at, skin, hair)
    out[~portrait.photo] = 0
    return out


def places(portrait: Portrait) -> Places:
    points, shape = portrait.points, portrait.matte.shape
    size = float(np.linalg.norm(points[10] - points[CHIN]))
    axis = (points[CHIN] - points[10]) / max(size, 1e-6)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) + 0.5
    oval = filled(shape, points, FACE_OVAL)
    far = [cv2.distanceTransform(m.astype(np.uint8), cv2.DIST_L2, 5) for m in (oval, ~oval)]
    near = np.zeros(shape, bool)
    for part in (*EYES, *BROWS, NOSE, UPPER_LIP, LOWER_LIP, INNER_MOUTH):
        near |= grown(filled(shape, points, part), max(2, round(0.02 * size)))
    centre = points[list(FACE_OVAL)].mean(0)

    def level(*of: int) -> float:
        return float(points[list(of)].mean(0) @ axis)

    return Places(
        size, x * axis[0] + y * axis[1], (x - centre[0]) * axis[1] - (y - centre[1]) * axis[0], oval,
        far[0] - far[1], _shrunk(portrait.matte > _SURE, max(1, round(0.03 * size))), near,
        level(*EYES[0], *EYES[1]), level(*BROWS[0], *BROWS[1]), level(NOSE_TIP), level(CHIN),
    )  # fmt: skip


def skin_or_hair(portrait: Portrait, at: Places) -> Evidence:
    """Where hair cannot be told from skin (hair of the skin's colour, a bald head) only the place counts:
    inside the oval, and above it where it is as smooth as the forehead as well."""
    above = at.down < at.eyes
    place = np.where(above, np.clip(_PLACE * at.inside / at.size, -_PLACE_MOST, _PLACE_MOST), 0.0)
    lab, seen = colours.lab_of(portrait.rgb), portrait.photo
    cheeks = np.zeros_like(at.oval)
    for part in (*CHEEKS, NOSE):
        cheeks |= filled(at.oval.shape, portrait.points, part)
    cheeks &= seen & (at.inside > 0)
    high = at.solid & (at.down < at.brows) & (at.inside < -0.1 * at.size) & seen
    skin, hair = colours.learned(lab, cheeks), colours.learned(lab, high)
    if skin is None:
        return Evidence(np.maximum(place, 0.0), False, np.zeros_like(at.oval))
    fit = skin.log_density(lab)
    foreign = fit < np.quantile(fit[cheeks], 0.02) - _FOREIGN
    odds = place if hair is None else colours.favour(lab, skin, hair) + place
    if hair is None or float(np.median((odds - place)[high])) > -colours.SAME:
        forehead = (at.inside > 0.1 * at.size) & (at.down < at.brows) & ~at.near & seen
        crown = above & at.solid & (at.inside > -0.2 * at.size) & (at.inside <= 0)
        bare = hair is not None and colours.bare(portrait.rgb, cheeks | forehead, forehead, high)
        return Evidence(np.where(crown & bare, _PLACE_MOST, np.maximum(place, 0.0)), False, foreign)
    forehead = (at.inside > 0.06 * at.size) & above & ~at.near & (odds > CLEAR)
    crown = at.solid & above & (at.inside < 0) & (odds < -CLEAR)
    lit, close = colours.learned(lab, cheeks | (forehead & seen)), colours.learned(lab, crown & seen)
    if lit is not None and close is not None:  # lit foreheads are seen now, and hair close to the face
        odds = colours.favour(lab, lit, close) + place
    return Evidence(cv2.GaussianBlur(odds, (0, 0), max(0.8, 0.012 * at.size)), True, foreign)


def hanging(hair: np.ndarray, at: Places) -> np.ndarray:  # bool [S, S], both
    """What of the hair's colour hangs together with hair above the eyes: a dark collar does not."""
    _, part = cv2.connectedComponents((hair & at.solid).astype(np.uint8), connectivity=4)
    high = np.unique(part[(at.down < at.eyes) & (part > 0)])
    return np.isin(part, high)


def _around(out: np.ndarray, at: Places, skin: np.ndarray, hair: np.ndarray, told: Evidence) -> None:
    """Hair, ears, neck and cloth, in place."""
    y, size = at.down, at.size
    outside = at.solid & (at.inside < -0.03 * size)
    above, below = outside & (y < at.eyes), outside & (y >= at.chin)
    beside = outside & (y >= at.eyes) & (y < at.chin)
    out[above & hair] = _TOP
    # a forehead goes on above the oval, a temple's skin may be an ear
    out[above & skin & (y < at.brows)] = bits(labels.SKIN)
    out[above & skin & (y >= at.brows)] = _BARE_BESIDE
    out[beside & hair] = bits(labels.HAIR)
    out[beside & hair & (y >= at.nose) & (abs(at.across) > 0.75 * size)] = bits(labels.HAIR, labels.CLOTH)
    out[beside & skin] = _BARE_BESIDE
    out[beside & skin & (y >= at.nose)] |= bits(labels.NECK)
    # a neck in shadow is of no known colour: where one may be, only skin's own colour says something
    column = abs(at.across) < 0.28 * size
    out[below & ~told.foreign & column & (y < at.chin + 0.3 * size)] = bits(labels.NECK)
    no_neck = below & told.foreign & ((abs(at.across) > 0.42 * size) | (y > at.chin + 0.45 * size))
    for side in (at.across < 0, at.across >= 0):
        half = beside & (y > at.nose) & side  # hair that reaches the chin may go on below it
        long = (half & (hair if told.told else ~skin)).sum() > 0.012 * size**2
        may_be_hair = (hair if told.told else np.ones_like(hair)) & long
        out[no_neck & side] = bits(labels.CLOTH)
        out[no_neck & side & may_be_hair] = bits(labels.CLOTH, labels.HAIR)


def _face(out: np.ndarray, portrait: Portrait, at: Places, skin: np.ndarray, hair: np.ndarray) -> None:
    """The face's own parts, in place. What spectacles may cover allows them too."""
    points, shape, size, y = portrait.points, out.shape, at.size, at.down
    bare = (at.inside > 0.03 * size) & ~at.near
    lower = y > at.nose
    glasses = bits(labels.GLASSES)
    worn = np.where((y > at.eyes - 0.22 * size) & ~lower, glasses, 0)  # where spectacles sit
    out[bare & (y < at.eyes) & skin] = bits(labels.SKIN)
    out[bare & (y < at.eyes) & hair] = _TOP
    out[bare & (y >= at.eyes) & skin] = bits(labels.SKIN)
    out[bare & (y >= at.eyes) & ~lower & hair & (at.inside < 0.14 * size)] = bits(labels.HAIR)
    out[bare & (y >= at.eyes) & (at.inside > 0.14 * size)] = bits(labels.SKIN)
    out[bare & lower & (at.inside > 0.06 * size)] = bits(labels.SKIN)
    out[bare & (out > 0)] |= worn[bare & (out > 0)]
    out[filled(shape, points, CHIN_PATCH) & ~at.near] = bits(labels.SKIN)
    edge = max(1, round(0.012 * size))
    high = (at.inside > 0.1 * size) & ~at.near & (y < at.brows)
    forehead = high & (y > at.brows - 0.15 * size)
    fringe = bool(forehead.any()) and float(hair[forehead].mean()) > 0.25
    if not fringe:  # light hair has the colour of lit foreheads: what is not clearly hair here is none
        out[high & ~hair] = bits(labels.SKIN) | worn[high & ~hair]
    for part in BROWS:
        brow = _shrunk(filled(shape, points, part), edge)
        out[brow] = 0 if fringe else bits(labels.BROWS) | glasses
    for part in EYES:
        out[_shrunk(filled(shape, points, part), edge)] = bits(labels.EYES) | glasses
    nose = _shrunk(filled(shape, points, NOSE), round(0.02 * size))
    out[nose] = bits(labels.NOSE) | glasses
    out[nose & lower] = bits(labels.NOSE)
    for part, label in ((UPPER_LIP, labels.UPPER_LIP), (LOWER_LIP, labels.LOWER_LIP)):
        out[_shrunk(filled(shape, points, part), edge)] = bits(label)
    out[_shrunk(filled(shape, points, INNER_MOUTH), edge)] = bits(labels.MOUTH_INSIDE)


def filled(shape: tuple[int, ...], points: np.ndarray, contour: Iterable[int]) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [(points[list(contour)] * 16).round().astype(np.int32)], 1, shift=4)
    return mask > 0


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def grown(mask: np.ndarray, radius: int) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), _disc(radius)) > 0


def _shrunk(mask: np.ndarray, radius: int) -> np.ndarray:
    return cv2.erode(mask.astype(np.uint8), _disc(radius), borderValue=1) > 0
