"""Teeth, tongue and the mouth's inside: colours for what a closed mouth hides."""

from __future__ import annotations

from torch import Tensor

# sRGB in average light, ours: read off photographs of open mouths, then judged by eye on renders.
TEETH, TONGUE, CAVITY = (0.88, 0.84, 0.77), (0.68, 0.36, 0.35), (0.36, 0.13, 0.12)
FRONT_DEPTH, BACK_DEPTH = 0.004, 0.032  # m behind the lips: where shade begins, and where it is deepest
DEEPEST = 0.25  # share of light left at the back
WARMTH = (1.0, 1.3, 1.4)  # what light there is has been reflected by red walls


def mouth_shade(depth: Tensor) -> Tensor:  # [N] m behind the lips -> [N] in [DEEPEST, 1]
    """Light that reaches this far into a mouth: falls off smoothly, as no renderer here casts shadows."""
    t = ((depth - FRONT_DEPTH) / (BACK_DEPTH - FRONT_DEPTH)).clamp(0, 1)
    return 1 - (1 - DEEPEST) * t * t * (3 - 2 * t)


def inner_colour(part: str, depth: Tensor, exposure: float) -> Tensor:  # [N] m -> [N, 3]
    """Colour of a part of the mouth, darker the deeper it lies; `exposure` is the photo's light."""
    base = {"teeth": TEETH, "tongue": TONGUE, "mouth_inside": CAVITY}[part]
    colour = depth.new_tensor(base).expand(len(depth), 3) * exposure
    return (colour * mouth_shade(depth)[:, None] ** depth.new_tensor(WARMTH)).clamp(0, 1)
