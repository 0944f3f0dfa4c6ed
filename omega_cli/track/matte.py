"""Cutting the person out: a soft matte from two networks and the picture itself, and clean edge colours.

The saliency network (U²-Net, Qin et al. 2020) and the face parser each know about where the person ends,
to some pixels; between their sure regions the matte is solved from the picture's own colours with the
matting Laplacian (Levin et al. 2008) in the box-filter form of He et al. 2010.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from omega_cli.track import parsing as labels

_HAIR_BAND, _EDGE_BAND = 11, 4  # px of doubt on each side of a hair edge, and of any other edge  # ours
_NO_HAIR = 0.3  # of the saliency: less speaks against hair  # ours
_HAIR_MISSED = 0.05  # how likely the saliency misses hair altogether, against a wall seen rightly  # ours
_WITNESS = 0.55  # of hair and hat that the saliency must see on the whole  # ours
_SALIENCY_SIDE = 320
_PRIOR_WEIGHT = 0.02  # pull of the networks' own guess inside the band of doubt  # ours
_EPSILON = 1e-4  # colour-line noise of the matting Laplacian, in [0, 1]² units  # ours


def saliency(rgb: np.ndarray, network: Any) -> np.ndarray:
    """u2netp's foreground guess [H, W] in [0, 1] of rgb [H, W, 3] uint8; `network` is a cv2.dnn net."""
    side = (_SALIENCY_SIDE, _SALIENCY_SIDE)
    x = cv2.resize(rgb, side, interpolation=cv2.INTER_AREA).astype(np.float32)
    x = x / max(float(x.max()), 1.0)
    x = (x - np.array([0.485, 0.456, 0.406], np.float32)) / np.array([0.229, 0.224, 0.225], np.float32)
    network.setInput(np.ascontiguousarray(x.transpose(2, 0, 1)[None]))
    y = network.forward()[0, 0]
    y = (y - y.min()) / max(float(y.max() - y.min()), 1e-6)
    return cv2.resize(y, rgb.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def person_probability(probabilities: np.ndarray) -> np.ndarray:
    """How much more the parser [LABELS, H, W] believes in its best body part than in background: [0, 1]."""
    part = probabilities[1:].max(0)
    return part / (part + probabilities[labels.BACKGROUND] + 1e-9)


def solve_matte(
    rgb: np.ndarray,  # [H, W, 3] uint8
    probabilities: np.ndarray,  # [LABELS, H, W] of the parser
    salient: np.ndarray,  # [H, W] in [0, 1]
    face_box: tuple[float, float, float, float],  # x0, y0, x1, y1 px
    photo: np.ndarray,  # [H, W] bool: False where the crop leaves the photo
) -> np.ndarray:
    """Alpha [H, W] float32 in [0, 1] of the one person whose face fills `face_box`."""
    person = person_probability(probabilities)
    face_centre = ((face_box[0] + face_box[2]) / 2, (face_box[1] + face_box[3]) / 2)
    guess = _agreed_guess(person, salient, face_box[3])
    solid = _own_component(guess > 0.5, face_centre)
    distance = _signed_distance(solid)
    hair = (probabilities.argmax(0) == labels.HAIR) & solid
    near_hair = cv2.dilate(hair.astype(np.uint8), _disc(_HAIR_BAND + 6)) > 0
    band = np.where(near_hair, _HAIR_BAND, _EDGE_BAND).astype(np.float32)
    wisps = near_hair & ~solid & (salient > 0.5) & (distance > -2.5 * _HAIR_BAND)
    unknown = ((np.abs(distance) < band) | wisps) & photo
    soft = np.clip(0.5 + distance / (2 * band), 0, 1)
    guess = np.where(wisps, 0.5 * (guess + salient), guess)
    prior = np.where(unknown, 0.5 * (soft + guess), distance >= 0).astype(np.float32)
    doubtful = hair & ((person < 0.95) | (salient < 0.95)) & (distance < 4 * _HAIR_BAND)
    gaps = _gaps_in_hair(rgb, prior, doubtful)
    prior[gaps], unknown = 0.15, unknown | (cv2.dilate(gaps.astype(np.uint8), _disc(2)) > 0) & photo
    alpha = _matting_laplacian_solve(rgb, prior, unknown)
    alpha = _local_colour_matte(rgb, alpha, unknown)
    alpha = np.clip((alpha - 0.05) / 0.85, 0, 1) * photo
    return _own_soft_component(alpha, face_centre).astype(np.float32)


def doubted_hair(
    probabilities: np.ndarray,  # [LABELS, H, W] of the parser
    salient: np.ndarray,  # [H, W] in [0, 1]
    eyes: float,  # their row, px
) -> np.ndarray:
    """Probabilities where hair is less likely the less the saliency sees a person.

    Walls and collars beside a jaw and flags beside a hat look like hair to the parser, which is then not sure
    of it; the saliency, which learned something else, sees nothing there. What the parser is sure of stays
    even so. A saliency that misses much of the hair (dark hair before dark walls, hats) is no witness above
    the eyes.
    """
    top = (labels.HAIR, labels.HAT)
    found = np.isin(probabilities.argmax(0), top)
    doubt = np.clip(salient / _NO_HAIR, _HAIR_MISSED, 1)
    out = probabilities.copy()
    if found.any() and salient[found].mean() > _WITNESS:
        out[list(top)] *= doubt
    else:
        below = np.arange(salient.shape[0])[:, None] > eyes
        out[labels.HAIR] *= np.where(below, doubt, 1)
    return out / np.maximum(out.sum(0), 1e-6)


def _agreed_guess(person: np.ndarray, salient: np.ndarray, chin: float) -> np.ndarray:
    """One guess [H, W] from the parser's (good at heads, vague at clothes) and the saliency's (good at
    outlines, but it may lose a dark hat whole, or take a flag along). `chin`: lowest row of the face."""
    guess = np.maximum(person, np.where(person > 0.3, 0.5 * (person + salient), 0))
    body = person > 0.5
    if (salient[body] > 0.5).mean() < 0.9:
        return guess  # saliency has lost a part of this person: it may only add
    spur = (salient < 0.25) & (person < 0.97) & (_signed_distance(body) < 2 * _HAIR_BAND)
    guess = np.where(spur, 0.5 * (person + salient), guess)
    clothes = np.arange(len(person))[:, None] > chin
    return np.where(clothes, np.maximum(guess, salient), guess)


def _gaps_in_hair(rgb: np.ndarray, alpha: np.ndarray, hair: np.ndarray) -> np.ndarray:
    """Pixels [H, W] bool called hair that show the background's colour and not the hair's: between locks
    both networks see no gap."""
    image = rgb.astype(np.float32) / 255
    to_hair = ((image - _layer(image, alpha**6, 24)) ** 2).sum(2)
    to_background = ((image - _layer(image, (1 - alpha) ** 6, 24)) ** 2).sum(2)
    gaps = hair & (to_background < 0.03) & (to_hair > np.maximum(0.05, 2.5 * to_background))
    return cv2.morphologyEx(gaps.astype(np.uint8), cv2.MORPH_OPEN, _disc(1)) > 0


def _local_colour_matte(rgb: np.ndarray, alpha: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Alpha once more from the colours around: where each pixel lies between the local F and B.

    Trusted as far as F and B differ and the pixel lies on the line between them. Both layers have a
    texture of their own: within its width a pixel is wholly one or the other.
    """
    image = rgb.astype(np.float32) / 255
    own, other = alpha**6, (1 - alpha) ** 6
    foreground, background = _layer(image, own, 16), _layer(image, other, 16)
    axis = foreground - background
    contrast = (axis * axis).sum(2)
    at = ((image - background) * axis).sum(2) / (contrast + 1e-4)
    low, high = (
        1.5
        * np.sqrt(_layer((image - mean) ** 2, weight, 16).mean(2).clip(0) / (contrast + 1e-4)).clip(0, 0.25)
        for mean, weight in ((background, other), (foreground, own))
    )
    at_share = (at - low) / (1 - low - high)
    off_line = ((image - background - at[..., None] * axis) ** 2).sum(2)
    trust = 0.8 * contrast / (contrast + 0.03) * np.exp(-off_line / 0.01)
    return np.where(unknown, alpha + trust * (at_share.clip(0, 1) - alpha), alpha).astype(np.float32)


def _layer(image: np.ndarray, weight: np.ndarray, radius: int) -> np.ndarray:
    """Local mean colour [H, W, 3] under `weight`; where none is near, that of a wider surrounding."""
    near, wide = (2 * radius + 1,) * 2, (8 * radius + 1,) * 2
    coloured = image * weight[..., None]
    far = cv2.blur(coloured, wide) / (cv2.blur(weight, wide) + 1e-6)[..., None]
    amount = cv2.blur(weight, near)[..., None]
    return (cv2.blur(coloured, near) + 0.01 * far) / (amount + 0.01)


def given_matte(alpha: np.ndarray, face_centre: tuple[float, float], photo: np.ndarray) -> np.ndarray:
    """The photo's own alpha [H, W] uint8 as matte [H, W] in [0, 1]: only the part joined to the face."""
    return _own_soft_component(alpha.astype(np.float32) / 255 * photo, face_centre)


def holds_background(alpha: np.ndarray, probabilities: np.ndarray) -> bool:
    """Whether a given matte is no cut-out of a person: a frame, a vignette, a rounded corner."""
    inside = alpha > 0.5
    return bool(inside.any()) and float((person_probability(probabilities)[inside] < 0.2).mean()) > 0.1


def clean_foreground(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The person's own colour at every pixel [H, W, 3] uint8, background light removed from soft edges.

    Smooth guesses F, B of both layers from their sure pixels, then the part of I = α F + (1 - α) B that
    they leave unexplained goes to F as far as α vouches for it (after blur fusion, Forte 2021). Where
    alpha is 0 the nearest foreground colour continues, so that resampling never meets the background.
    """
    image = rgb.astype(np.float32) / 255
    a = alpha[..., None]
    f, b = _layer(image, alpha**4, 8), _layer(image, (1 - alpha) ** 4, 8)
    foreground = np.clip(f + a * a * (image - a * f - (1 - a) * b) / (a * a + 0.1 * (1 - a)), 0, 1)
    foreground = np.where(a > 0.995, image, foreground)
    return _extended(foreground, alpha > 0.1)


def _extended(colour: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Colours [H, W, 3] in [0, 1] with unknown pixels filled from the nearest known ones (push-pull)."""
    filled, weight = colour * known[..., None], known.astype(np.float32)
    levels: list[tuple[np.ndarray, np.ndarray]] = [(filled, weight)]
    while min(weight.shape) > 1:
        half = (max(1, weight.shape[1] // 2), max(1, weight.shape[0] // 2))
        weight_half = cv2.resize(weight, half, interpolation=cv2.INTER_AREA)
        filled = cv2.resize(filled, half, interpolation=cv2.INTER_AREA)
        scale = np.minimum(1.0, weight_half) / np.maximum(weight_half, 1e-9)
        filled, weight = filled * scale[..., None], weight_half * scale
        levels.append((filled, weight))
    result = levels[-1][0] / max(float(levels[-1][1].max()), 1e-6)
    for filled, weight in reversed(levels[:-1]):
        up = cv2.resize(result, weight.shape[::-1], interpolation=cv2.INTER_LINEAR).reshape(filled.shape)
        result = filled + (1 - weight[..., None]) * up
    return (np.clip(result, 0, 1) * 255 + 0.5).astype(np.uint8)


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def _signed_distance(mask: np.ndarray) -> np.ndarray:
    """Distance to the mask's edge in px [H, W]: positive inside, negative outside."""
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)
    return np.where(mask, inside - 0.5, 0.5 - outside).astype(np.float32)


def _own_component(mask: np.ndarray, centre: tuple[float, float]) -> np.ndarray:
    """The connected part of a mask at the face, its holes filled."""
    count, components = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    H, W = mask.shape
    x, y = int(np.clip(centre[0], 0, W - 1)), int(np.clip(centre[1], 0, H - 1))
    window = components[max(0, y - 24) : y + 25, max(0, x - 24) : x + 25]
    votes = np.bincount(window.ravel(), minlength=count)
    votes[0] = 0
    if votes.max() == 0:
        return mask
    own = components == votes.argmax()
    _, holes, stats, _ = cv2.connectedComponentsWithStats((~own).astype(np.uint8), connectivity=4)
    left, top = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
    right, bottom = left + stats[:, cv2.CC_STAT_WIDTH], top + stats[:, cv2.CC_STAT_HEIGHT]
    enclosed = (left > 0) & (top > 0) & (right < W) & (bottom < H)
    # a gap between hair and neck is background; only specks are the parser's own holes
    enclosed &= stats[:, cv2.CC_STAT_AREA] < 0.002 * H * W
    enclosed[0] = False
    return own | enclosed[holes]


def _own_soft_component(alpha: np.ndarray, centre: tuple[float, float]) -> np.ndarray:
    """Alpha with everything not joined to the face set to zero."""
    own = _own_component(alpha > 0.1, centre)
    return alpha * (cv2.dilate(own.astype(np.uint8), _disc(2)) > 0)


def _matting_laplacian_solve(rgb: np.ndarray, prior: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Minimise αᵀLα + w |α - prior|² over the unknown pixels, α = prior elsewhere.

    First at half size: it carries colour across the band in few steps; the full size then draws strands.
    """
    if not unknown.any():
        return prior
    image = rgb.astype(np.float32) / 255
    half = (rgb.shape[1] // 2, rgb.shape[0] // 2)

    def halved(values: np.ndarray) -> np.ndarray:
        return cv2.resize(values, half, interpolation=cv2.INTER_AREA)

    free = halved(unknown.astype(np.float32)) > 0
    coarse_prior = halved(prior)
    coarse = _descend(halved(image), coarse_prior, coarse_prior, free, radius=3, steps=15)
    start = np.where(unknown, cv2.resize(coarse, rgb.shape[1::-1], interpolation=cv2.INTER_LINEAR), prior)
    return np.clip(_descend(image, start, prior, unknown, radius=1, steps=12), 0, 1)


def _descend(
    image: np.ndarray, alpha: np.ndarray, prior: np.ndarray, free: np.ndarray, radius: int, steps: int
) -> np.ndarray:
    """`steps` conjugate-gradient steps from `alpha` [H, W] over the `free` pixels."""
    laplacian = _MattingLaplacian(image, radius)
    mask, alpha = free.astype(np.float32), alpha.astype(np.float32)
    residual = mask * (_PRIOR_WEIGHT * (prior - alpha) - laplacian(alpha))
    direction, power = residual.copy(), float((residual * residual).sum())
    for _ in range(steps):
        if power < 1e-5:
            break
        image_of = mask * (laplacian(direction) + _PRIOR_WEIGHT * direction)
        step = power / max(float((direction * image_of).sum()), 1e-12)
        alpha = alpha + step * direction
        residual -= step * image_of
        new_power = float((residual * residual).sum())
        direction = residual + new_power / power * direction
        power = new_power
    return alpha


class _MattingLaplacian:
    """p [H, W] -> L p [H, W] with box filters only, normalised by the window's area (He et al. 2010)."""

    def __init__(self, image: np.ndarray, radius: int) -> None:
        self.image, self.size = image, (2 * radius + 1, 2 * radius + 1)
        self.mean = self._box(image)
        r, g, b = cv2.split(image)
        moments = [
            *cv2.split(self._box(cv2.merge([r * r, r * g, r * b]))),
            *cv2.split(self._box(cv2.merge([g * g, g * b, b * b]))),
        ]
        mr, mg, mb = cv2.split(self.mean)
        rr, rg, rb, gg, gb, bb = (
            m - x * y
            for m, (x, y) in zip(
                moments, ((mr, mr), (mr, mg), (mr, mb), (mg, mg), (mg, mb), (mb, mb)), strict=True
            )
        )
        rr, gg, bb = rr + _EPSILON, gg + _EPSILON, bb + _EPSILON
        # inverse of the symmetric 3 x 3, written out: numpy's batched inverse is 20 times slower here
        c00, c01, c02 = gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg
        c11, c12, c22 = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
        determinant = np.maximum(rr * c00 + rg * c01 + rb * c02, 1e-14)
        self.rows = tuple(
            cv2.merge([x / determinant, y / determinant, z / determinant])
            for x, y, z in ((c00, c01, c02), (c01, c11, c12), (c02, c12, c22))
        )

    def _box(self, values: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(values, -1, self.size, borderType=cv2.BORDER_REFLECT_101)

    def __call__(self, p: np.ndarray) -> np.ndarray:
        mean_p = self._box(p)
        c0, c1, c2 = cv2.split(self._box(self.image * p[..., None]) - self.mean * mean_p[..., None])
        a = self.rows[0] * c0[..., None] + self.rows[1] * c1[..., None] + self.rows[2] * c2[..., None]
        b = mean_p - cv2.transform(a * self.mean, _SUM)
        return p - cv2.transform(self._box(a) * self.image, _SUM) - self._box(b)


_SUM = np.ones((1, 3), np.float32)
