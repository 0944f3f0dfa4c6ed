"""Skin or hair by colour, for one photograph: two models learned from where landmarks leave no doubt.

Colours are CIE Lab. Skin is learned from cheeks and nose, hair from what the matte shows high above the
face. Hard light changes lightness far more than a* and b*, so lightness may vary a lot within a model.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

FLOOR = (9.0, 2.5, 3.0)  # smallest deviation of L*, a*, b* within a model  # ours
MODES = 3  # of a model: lit, half lit, in shadow
FEWEST = 30  # pixels that a model is learned from
SAME = 4.0  # nats: where hair's own pixels favour hair by less in the median, colours do not tell  # ours
SMOOTH, ALIKE = 0.5, 0.45  # a bare crown: detail beside the forehead's, share of the skin's colour  # ours
MOST = 12.0  # nats at most from one pixel's colour


@dataclass(frozen=True)
class Model:
    """A mixture of Gaussians over Lab. means [K, 3]; inverse [K, 3, 3]: covariances';
    offset [K]: log of what stands before the exponential."""

    means: np.ndarray
    inverse: np.ndarray
    offset: np.ndarray

    def log_density(self, lab: np.ndarray) -> np.ndarray:  # [..., 3] -> [...]
        apart = lab[..., None, :] - self.means
        distance = np.einsum("...ki,kij,...kj->...k", apart, self.inverse, apart)
        return np.logaddexp.reduce(self.offset - 0.5 * distance, axis=-1)


def lab_of(rgb: np.ndarray) -> np.ndarray:  # uint8 [S, S, 3] sRGB -> float32 [S, S, 3]
    """L* in [0, 100], a* and b*; grain is blurred away."""
    lab = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return cv2.GaussianBlur(lab, (0, 0), 1.0)


def learned(lab: np.ndarray, where: np.ndarray) -> Model | None:
    """A model of the pixels `where` [S, S] bool, None if they are too few. The tenth that fits worst (a
    strand over a cheek, a highlight) does not count."""
    seen = lab[where]
    if len(seen) < FEWEST:
        return None
    seen = seen[np.lexsort(seen.T)]  # the same model however the pixels come
    model = _mixture(seen)
    fit = model.log_density(seen)
    return _mixture(seen[fit >= np.quantile(fit, 0.1)])


def _mixture(seen: np.ndarray) -> Model:
    """Pixels in MODES groups of lightness, a Gaussian for each."""
    parts = np.array_split(seen[np.argsort(seen[:, 0], kind="stable")], MODES)
    means, inverse, offset = [], [], []
    for part in parts:
        # a wide group in lightness shows light, a narrow one only few pixels: neither is trusted fully
        covariance = np.cov(part.T) + np.diag(np.square(FLOOR))
        means.append(np.median(part, 0))
        inverse.append(np.linalg.inv(covariance))
        offset.append(np.log(len(part) / len(seen)) - 0.5 * np.linalg.slogdet(covariance)[1])
    return Model(np.stack(means), np.stack(inverse), np.stack(offset))


def favour(lab: np.ndarray, skin: Model, other: Model) -> np.ndarray:  # [S, S] nats
    """How much more likely a pixel's colour is as skin than as the other: positive is skin."""
    apart = skin.log_density(lab) - other.log_density(lab)
    return np.clip(apart, -MOST, MOST).astype(np.float32)


def bare(rgb: np.ndarray, skin: np.ndarray, forehead: np.ndarray, crown: np.ndarray) -> bool:
    """Whether a head is bald: what is above the face has the skin's colour and less detail than the forehead,
    where hair has more. Masks [S, S] bool."""
    model = learned(lab_of(rgb), skin)
    if model is None or not (crown.any() and forehead.any()):
        return False
    fit = model.log_density(lab_of(rgb))
    light = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[..., 0]
    detail = abs(light - cv2.GaussianBlur(light, (0, 0), 1.5))
    alike = float((fit[crown] > np.quantile(fit[skin], 0.1)).mean())
    return alike > ALIKE and float(np.median(detail[crown])) < SMOOTH * float(np.median(detail[forehead]))
