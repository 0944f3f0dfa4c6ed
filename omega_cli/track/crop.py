"""The aligned input: a 512 px square that shows the whole head, its hair and its neck."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from omega_cli.track import parsing as labels
from omega_cli.track.landmarks import Face, square_crop
from omega_cli.track.observe import SIZE

SPAN = 2.1  # side of the crop in face heights  # ours
WIDER = (2.55, 3.0)  # tried in turn while hair or hat is cut off inside the photo  # ours
_FRAME_LEVEL, _FRAME_SHARE = 45, 0.06  # a frame is darker than this and at most so wide
_CUT_OFF = 0.03  # share of an edge that hair may touch before the crop is widened


@dataclass(frozen=True)
class Crop:
    """rgb [512, 512, 3] uint8; photo [512, 512] bool, False beyond the photo's edge; crop px = photo px *
    scale + shift; span in face heights."""

    rgb: np.ndarray
    photo: np.ndarray
    scale: float
    shift: tuple[float, float]
    span: float


def face_height(face: Face) -> float:
    """Height in px that the face would have upright and frontal: a nod or a turn shortens the box."""
    x0, y0, x1, y1 = face.box
    return max(y1 - y0, 1.1 * (x1 - x0))


def window(face: Face, span: float) -> tuple[tuple[float, float], float]:
    """Centre and side, photo px, of the crop: the skull lies behind a turned face and above any face."""
    height = face_height(face)
    x = face.centre[0] - 0.35 * height * math.sin(math.radians(face.yaw_deg))
    y = face.centre[1] - (0.05 + 0.12 * (span - SPAN)) * height
    return (x, y), span * height


def cut(rgb: np.ndarray, face: Face, span: float = SPAN) -> Crop:
    """The crop of a photo rgb [H, W, 3] around a face. Beyond its edge the photo is mirrored: streaks of
    edge pixels look like hair to a network."""
    centre, side = window(face, span)
    picture, scale, shift = square_crop(rgb, centre, side, SIZE, mirror=True)
    at = (np.arange(SIZE) + 0.5)[:, None]
    x, y = ((at - shift) / scale).T
    x0, y0, x1, y1 = picture_box(rgb)
    inside = ((y >= y0) & (y <= y1))[:, None] & ((x >= x0) & (x <= x1))[None]
    return Crop(picture, inside, scale, shift, span)


def picture_box(rgb: np.ndarray) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of a photo [H, W, 3] without the black frame that some are saved with."""
    dark = rgb.max(2) < _FRAME_LEVEL
    box = []
    for lines in (dark.mean(0) > 0.98, dark.mean(1) > 0.98):
        limit = int(_FRAME_SHARE * len(lines))
        first = next((i for i in range(limit) if not lines[i]), 0)
        last = next((i for i in range(limit) if not lines[-1 - i]), 0)
        # beside a frame the next line is a blend of both
        box.append((first + (first > 0), len(lines) - last - (last > 0)))
    return box[0][0], box[1][0], box[0][1], box[1][1]


def crop_like(values: np.ndarray, crop: Crop) -> np.ndarray:
    """Another image of the photo's size (its alpha) through the same window."""
    centre = ((SIZE / 2 - crop.shift[0]) / crop.scale, (SIZE / 2 - crop.shift[1]) / crop.scale)
    return square_crop(values, centre, SIZE / crop.scale, SIZE)[0]


def hair_is_cut_off(label_map: np.ndarray, photo: np.ndarray) -> bool:
    """Whether hair or a hat leaves the crop at the top, or at the upper sides, where the photo goes on.

    Only what hangs together with most of the face counts: parsers see hair in flags and curtains.
    """
    _, parts = cv2.connectedComponents((label_map != labels.BACKGROUND).astype(np.uint8), connectivity=4)
    face = parts[np.isin(label_map, labels.FACE_LABELS)]
    own = parts == np.bincount(face).argmax() if len(face) else parts > 0
    high = np.isin(label_map, (labels.HAIR, labels.HAT)) & photo & own
    half = len(label_map) // 2
    edges = (high[1], high[:half, 1], high[:half, -2])
    return any(edge.mean() > _CUT_OFF for edge in edges)


def tidy_labels(label_map: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Parsing with specks taken over by their surroundings, and made to agree with the matte.

    A label island under 0.15 % of the picture, and hat flecks on a head of hair (or the other way round),
    go to the neighbour they touch most; background inside the matte and body outside it likewise.
    """
    tidy = label_map.astype(np.uint8)
    hat, hair = (tidy == labels.HAT).sum(), (tidy == labels.HAIR).sum()
    if 0 < hat < 0.25 * hair:
        tidy[tidy == labels.HAT] = labels.HAIR
    elif 0 < hair < 0.08 * hat:
        tidy[tidy == labels.HAIR] = labels.HAT
    unsure = np.zeros(tidy.shape, bool)
    for label in np.unique(tidy):
        if label in (labels.BROWS, labels.EYES, labels.MOUTH_INSIDE, labels.EARRING):
            continue  # small by nature
        _, parts, stats, _ = cv2.connectedComponentsWithStats((tidy == label).astype(np.uint8))
        small = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] < 0.0015 * tidy.size)
        unsure |= np.isin(parts, small[small > 0])
    body = alpha > 0.5
    unsure |= body & (tidy == labels.BACKGROUND)
    tidy[~body] = labels.BACKGROUND
    return _filled_from_neighbours(tidy, unsure & body, body)


def _filled_from_neighbours(label_map: np.ndarray, holes: np.ndarray, body: np.ndarray) -> np.ndarray:
    """Give each hole pixel the label of the nearest sure body pixel."""
    known = body & ~holes & (label_map != labels.BACKGROUND)
    if not known.any() or not holes.any():
        return label_map
    _, nearest = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    label_of = np.zeros(nearest.max() + 1, np.uint8)
    label_of[nearest[known]] = label_map[known]
    filled = label_map.copy()
    filled[holes] = label_of[nearest[holes]]
    return filled
