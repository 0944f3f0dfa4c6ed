"""What the outline of the head tells of the skull: it stays inside the hair, ears are where ears are seen."""

from __future__ import annotations

import cv2
import numpy as np

from omega_cli.head.model import HeadModel
from omega_cli.track import parsing as labels

_SKULL_SPREAD, _EAR_SPREAD = 0.012, 0.02  # in face sizes  # ours
_BALD = 0.04  # hair and hat under this share of the head's pixels: the outline is the skull itself  # ours
_MIN_EAR = 0.1  # height in face sizes from which an ear counts  # ours
_STRIDE = 6  # every n-th scalp vertex is tested: neighbours say the same


class Outline:
    """Vertices whose projection the outline can correct, and the correction itself."""

    def __init__(self, model: HeadModel) -> None:
        def indices(name: str) -> np.ndarray:
            region = model.regions.get(name)
            return np.zeros(0, int) if region is None else np.flatnonzero(region.cpu().numpy())

        scalp, self.left, self.right = indices("scalp")[::_STRIDE], indices("left_ear"), indices("right_ear")
        self.vertices = np.concatenate([scalp, self.left, self.right])
        self._scalp = slice(0, len(scalp))
        self._ears = (
            slice(len(scalp), len(scalp) + len(self.left)),
            slice(len(scalp) + len(self.left), len(self.vertices)),
        )

    def targets(
        self,
        pixels: np.ndarray,  # [N, 2] the vertices as projected now
        label_map: np.ndarray,  # [512, 512]
        alpha: np.ndarray,  # [512, 512]
        face_box: tuple[float, float, float, float],
        yaw_deg: float,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where the vertices should be [N, 2] px, and the whitening [N, 2, 2] of that (mostly 0)."""
        size = max(face_box[2] - face_box[0], face_box[3] - face_box[1])
        goal, whiten = pixels.copy(), np.zeros((len(pixels), 2, 2))
        self._skull(pixels, label_map, alpha, size, goal, whiten)
        middle = (face_box[0] + face_box[2]) / 2
        for side, ear in zip((1, -1), self._ears, strict=True):
            if side * yaw_deg < 20:  # the ear of the far side is hidden
                self._ear(pixels, label_map, ear, side, middle, size, goal, whiten)
        return goal, whiten

    def _skull(
        self, pixels: np.ndarray, label_map: np.ndarray, alpha: np.ndarray, size: float,
        goal: np.ndarray, whiten: np.ndarray,
    ) -> None:  # fmt: skip
        points = pixels[self._scalp]
        if not len(points):
            return
        solid = (alpha > 0.5).astype(np.uint8)
        outside = cv2.distanceTransform(1 - solid, cv2.DIST_L2, 5)
        inside = cv2.distanceTransform(solid, cv2.DIST_L2, 5)
        signed = cv2.GaussianBlur(outside - inside, (0, 0), 2)  # > 0 outside
        dy, dx = np.gradient(signed)
        H, W = signed.shape
        columns, rows = points.T.astype(int)
        # where the photo ends the outline is not the head's
        near = (columns > 4) & (columns < W - 5) & (rows > 4) & (rows < H - 5)
        columns, rows = columns.clip(0, W - 1), rows.clip(0, H - 1)
        distance = signed[rows, columns]
        normal = np.stack([dx[rows, columns], dy[rows, columns]], axis=1)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
        head = solid.astype(bool) & ~np.isin(label_map, (labels.CLOTH, labels.NECK, labels.NECKLACE))
        covered = np.isin(label_map, (labels.HAIR, labels.HAT)).sum() / max(head.sum(), 1)
        pulled = near & (distance > 0)
        if covered < _BALD:
            pulled |= near & _outermost(points) & (distance > -0.1 * size)
        index = np.flatnonzero(pulled)
        goal[index] = points[pulled] - distance[pulled, None] * normal[pulled]
        whiten[index, 0] = normal[pulled] / (_SKULL_SPREAD * size)

    def _ear(
        self, pixels: np.ndarray, label_map: np.ndarray, ear: slice, side: int, middle: float, size: float,
        goal: np.ndarray, whiten: np.ndarray,
    ) -> None:  # fmt: skip
        points = pixels[ear]
        if not len(points):
            return
        mask = label_map == labels.EARS
        half = np.zeros_like(mask)
        split = int(np.clip(middle, 0, mask.shape[1]))
        half[:, split:] = side > 0
        half[:, :split] = side < 0
        rows, columns = np.nonzero(mask & half)
        if len(rows) < 100 or np.ptp(rows) < _MIN_EAR * size:
            return
        start = ear.start
        edge = np.quantile(columns, 0.98 if side > 0 else 0.02)
        outer = int(np.argmax(side * points[:, 0]))
        goal[start + outer, 0] = edge
        whiten[start + outer, 0] = np.array([1.0, 0.0]) / (_EAR_SPREAD * size)
        lobe = int(np.argmax(points[:, 1]))
        goal[start + lobe, 1] = np.quantile(rows, 0.98)
        whiten[start + lobe, 1] = np.array([0.0, 1.0]) / (_EAR_SPREAD * size)


def _outermost(points: np.ndarray) -> np.ndarray:
    """Which points [N, 2] form the upper outline: per direction from the middle, the farthest one."""
    offset = points - points.mean(0)
    sector = ((np.arctan2(offset[:, 1], offset[:, 0]) + np.pi) / (2 * np.pi) * 48).astype(int)
    radius = np.linalg.norm(offset, axis=1)
    farthest = np.zeros(len(points), bool)
    for k in np.unique(sector):
        members = np.flatnonzero(sector == k)
        farthest[members[radius[members].argmax()]] = True
    return farthest & (offset[:, 1] < 0)  # pixels: y down
