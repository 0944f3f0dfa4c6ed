"""Spectacles, hats, scarves and bald crowns put on photographs: few photographs have them, or nothing sure
can be said of them there.

Without them photographs teach that nobody wears anything and that above every face there is hair. Landmarks
say where things sit, chance says how they look. Sizes are in distances between the eyes or face heights, and
all of them are ours.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import torch

from omega_cli.track import parsing as labels
from omega_cli.train.parser import augment, partial
from omega_cli.train.parser.pack import Portrait

_TEMPLES = (127, 356)  # MediaPipe: where the arms leave the face, right and left of the subject
_SOFT = 0.7  # px by which edges are blurred


def dressed(
    portrait: Portrait, bits: np.ndarray, rng: np.random.Generator
) -> tuple[Portrait, np.ndarray]:  # bits int32 [S, S], of the portrait without; and with
    """A copy of the photograph with another head, with spectacles, or both, and its allowed labels."""
    on_top = int(rng.integers(5))
    if on_top < 3:
        change = (with_hat, with_scarf, with_bald_crown)[on_top]
        portrait, bits = change(portrait, bits, rng)
    if on_top >= 3 or rng.random() < 0.3:
        portrait, bits = with_spectacles(portrait, bits, rng)
    return portrait, bits


def with_spectacles(
    portrait: Portrait, bits: np.ndarray, rng: np.random.Generator
) -> tuple[Portrait, np.ndarray]:
    """Rims, thin or thick, with a bridge and arms; lenses clear, shiny or dark: glasses as a whole."""
    points = portrait.points
    eyes = np.stack([points[list(part)].mean(0) for part in partial.EYES])
    apart = eyes[1] - eyes[0]
    far = float(np.linalg.norm(apart))
    x_axis = apart / max(far, 1e-6)
    y_axis = np.array([-x_axis[1], x_axis[0]])
    wide, high = rng.uniform(0.34, 0.47) * far, rng.uniform(0.22, 0.4) * far
    power, rim = rng.uniform(2, 5), rng.uniform(0.012, 0.075) * far
    y, x = np.mgrid[: bits.shape[0], : bits.shape[1]] + 0.5
    lens, inner = np.zeros(bits.shape, bool), np.zeros(bits.shape, bool)
    for side, eye in zip((-1, 1), eyes, strict=True):
        at = eye + x_axis * side * rng.uniform(0.0, 0.04) * far + y_axis * 0.06 * far
        u = abs((x - at[0]) * x_axis[0] + (y - at[1]) * x_axis[1])
        v = abs((x - at[0]) * y_axis[0] + (y - at[1]) * y_axis[1])
        lens |= (u / wide) ** power + (v / high) ** power < 1
        inner |= (u / (wide - rim)) ** power + (v / (high - rim)) ** power < 1
    frame = lens & ~inner
    lines = np.zeros(bits.shape, np.uint8)
    thick, middle = max(1, round(rim)), eyes.mean(0) + y_axis * rng.uniform(-0.04, 0.04) * far
    gap = max(0.0, far / 2 - wide) + rim
    ends = [(middle - x_axis * gap, middle + x_axis * gap)]
    for side, eye, temple in zip((-1, 1), eyes, _TEMPLES, strict=True):
        ends.append((eye + x_axis * side * wide, points[temple]))
    for a, b in ends:
        first, last = ((16 * end).round().astype(int).tolist() for end in (a, b))
        cv2.line(lines, first, last, (1,), thick, shift=4)
    frame |= (lines > 0) & ~inner
    colour = rng.uniform(0, 255, 3) * rng.choice([0.15, 1.0], p=[0.6, 0.4])
    rgb = portrait.rgb.astype(np.float32)
    dark = rng.random() < 0.25
    shine = np.clip(0.5 + ((x - x.mean()) * rng.normal() + (y - y.mean()) * rng.normal()) / far, 0, 1)
    tint = rng.uniform(0, 70, 3) if dark else np.full(3, 255.0)
    strength = rng.uniform(0.5, 0.97) if dark else rng.uniform(0, 0.2) * shine
    rgb = _laid(rgb, tint, inner * strength)
    rgb = _laid(rgb, colour, frame.astype(np.float32))
    out = np.where(lens | frame, np.int32(partial.bits(labels.GLASSES)), bits)
    return _with(portrait, rgb, portrait.matte), np.where(portrait.photo, out, 0)


def with_hat(portrait: Portrait, bits: np.ndarray, rng: np.random.Generator) -> tuple[Portrait, np.ndarray]:
    """A cap or hat over all that is above the brows, now and then with a brim or a band."""
    at = partial.places(portrait)
    size, across = at.size, abs(at.across) / at.size
    line = at.brows - (rng.uniform(0.06, 0.3) - rng.uniform(-0.1, 0.5) * across**2) * size
    ring = at.inside > -rng.uniform(0.14, 0.4) * size
    crown = (at.down < line) & (ring | (portrait.matte > 0.2))
    brim = np.zeros_like(crown)
    if rng.random() < 0.6:
        reach, depth = rng.uniform(0.42, 0.9), rng.uniform(0.03, 0.16) * size
        brim = (across < reach) & (abs(at.down - line + 0.3 * depth) < depth * (1 - (across / reach) ** 2))
    return _covered(portrait, bits, crown, brim, partial.bits(labels.HAT), rng)


def with_scarf(portrait: Portrait, bits: np.ndarray, rng: np.random.Generator) -> tuple[Portrait, np.ndarray]:
    """A headscarf or hood: all of the person around the face, the neck included."""
    at = partial.places(portrait)
    around = at.inside < rng.uniform(0.0, 0.06) * at.size
    ring = at.inside > -rng.uniform(0.1, 0.3) * at.size
    below = at.down > at.chin - 0.2 * at.size
    fall = below & (abs(at.across) < (0.5 + 0.4 * (at.down - at.chin) / at.size) * at.size)
    cover = around & (ring | fall | (portrait.matte > 0.2))
    low = at.down > at.chin + 0.1 * at.size  # where it ends and a coat begins nobody can say
    out, told = _covered(portrait, bits, cover, cover & False, partial.bits(labels.HAT), rng)
    both = partial.bits(labels.HAT, labels.CLOTH)
    return out, np.where(cover & low & portrait.photo, np.int32(both), told)


def with_bald_crown(
    portrait: Portrait, bits: np.ndarray, rng: np.random.Generator
) -> tuple[Portrait, np.ndarray]:
    """The forehead's skin goes on over the crown; at the sides hair may stay. Only where hair lies close to
    the head, else the copy is as the photograph is."""
    at = partial.places(portrait)
    size, across = at.size, abs(at.across) / at.size
    above = (at.down < at.brows) & portrait.photo
    forehead = above & (at.inside > 0.08 * size) & ~at.near
    person = above & (portrait.matte > 0.2)
    if not forehead.any() or (person & (at.inside < -0.42 * size)).sum() > 0.02 * size**2:
        return portrait, bits
    edge = at.brows - 0.05 * size - rng.uniform(0, 0.6) * size * np.clip(across - 0.3, 0, None)
    crown = person & (at.down < edge) & (across < rng.uniform(0.36, 0.8))
    dome = above & (at.inside > -0.36 * size) & (across < 0.5) & (at.down < edge)
    skin = (crown | (dome & (portrait.matte > 0.05))) & (at.inside < 0.1 * size)
    colour = np.median(portrait.rgb[forehead], 0)
    y, x = np.mgrid[: bits.shape[0], : bits.shape[1]] / bits.shape[0] - 0.5
    light = 1 + 0.6 * (x * rng.normal() + y * rng.normal())
    far = cv2.distanceTransform(person.astype(np.uint8), cv2.DIST_L2, 3)
    light *= 0.7 + 0.3 * np.clip(far / (0.12 * size), 0, 1)
    shine = rng.uniform(0, 70) * np.exp(-((across / 0.16) ** 2) - ((at.inside / size + 0.1) / 0.08) ** 2)
    painted = np.clip(
        colour * light[..., None] + shine[..., None] + rng.normal(0, 2, (*bits.shape, 1)), 0, 255
    )
    soft = cv2.GaussianBlur(skin.astype(np.float32), (0, 0), 0.012 * size)
    soft = np.where(at.inside > 0, soft, np.maximum(soft, skin))[..., None]  # no hairline shows through
    rgb = portrait.rgb * (1 - soft) + painted * soft
    out = np.where(skin | forehead, np.int32(partial.bits(labels.SKIN)), bits)
    border = cv2.dilate(skin.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    out = np.where(border & ~skin & ~forehead & (out != partial.bits(labels.BACKGROUND)), 0, out)
    return _with(portrait, rgb, portrait.matte), np.where(portrait.photo, out, 0)


def _covered(
    portrait: Portrait,
    bits: np.ndarray,
    cover: np.ndarray,  # bool [S, S]
    second: np.ndarray,  # bool [S, S]: of another cloth
    told: int,
    rng: np.random.Generator,
) -> tuple[Portrait, np.ndarray]:
    """Cloth over what `cover` shows: made-up textures, light from a side, folds."""
    side = bits.shape[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        cloths = augment.textures(2, side, torch.device("cpu")).permute(0, 2, 3, 1).numpy() * 255
    if rng.random() < 0.6:  # plain cloth is the most common
        cloths = 0.12 * cloths + 0.88 * cloths.mean((1, 2), keepdims=True)
    if rng.random() < 0.6:  # and dull or dark
        grey = cloths.mean(3, keepdims=True)
        cloths = (grey + rng.uniform(0, 0.6) * (cloths - grey)) * rng.uniform(0.1, 1.1)
    y, x = np.mgrid[:side, :side] / side - 0.5
    slope, wave = rng.normal(size=2), rng.uniform(5, 40)
    light = 1 + 0.5 * (x * slope[0] + y * slope[1])
    light += rng.uniform(0, 0.15) * np.sin(wave * (x * rng.normal() + y * rng.normal() + 3 * x * y))
    both = cover | second
    edge = cv2.distanceTransform(both.astype(np.uint8), cv2.DIST_L2, 3)
    light *= 0.75 + 0.25 * np.clip(edge / (0.06 * side), 0, 1)  # round, so darker at the rim
    rgb = portrait.rgb.astype(np.float32)
    for mask, cloth in zip((cover & ~second, second), cloths, strict=True):
        rgb = _laid(rgb, np.clip(cloth * light[..., None], 0, 255), mask.astype(np.float32))
    out = np.where(both, np.int32(told), bits)
    return _with(portrait, rgb, np.maximum(portrait.matte, both)), np.where(portrait.photo, out, 0)


def _laid(rgb: np.ndarray, colour: np.ndarray, share: np.ndarray) -> np.ndarray:
    soft = cv2.GaussianBlur(share.astype(np.float32), (0, 0), _SOFT)[..., None]
    return rgb * (1 - soft) + colour * soft


def _with(portrait: Portrait, rgb: np.ndarray, matte: np.ndarray) -> Portrait:
    picture = rgb.round().clip(0, 255).astype(np.uint8)
    return dataclasses.replace(portrait, rgb=picture, matte=matte.astype(np.float32))
