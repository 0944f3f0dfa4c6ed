"""How near the camera stood: what perspective does to landmarks tells the focal length.

Near a face the nose is large and the sides of the head shrink behind it; from far away both are drawn to one
scale. Assuming one distance for all photos makes heads of selfies too narrow behind the face and those of
long lenses too wide, by up to 10 % at the skull. The solver's cost at a few focal lengths, with a prior on
them, says which is likely, unless the photo's EXIF tells.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from omega_cli.track.fit import State, View
from omega_cli.track.observe import source_camera

USUAL, SPREAD = 1450.0, 0.5  # px of the 512 px crop: what portraits have, deviation of the logarithm  # ours
STEP, MOST = 0.35, 3  # of the logarithm; so many steps to each side, from 0.4 to 3.2 m  # ours
Chooser = Callable[[Callable[[float], float]], float]  # from the solver's cost of a focal length to one


def most_likely_focal(cost: Callable[[float], float]) -> float:
    """The focal length, px, at which cost (twice a negative log likelihood) and prior are least together.

    Asked at USUAL and both sides of it, then onwards as long as it falls; between them a parabola.
    """
    found: dict[int, float] = {}

    def at(k: int) -> float:
        if k not in found:
            found[k] = cost(USUAL * math.exp(k * STEP)) + (k * STEP / SPREAD) ** 2
        return found[k]

    best = min((0, -1, 1), key=at)
    while 0 < abs(best) < MOST and at(best + int(math.copysign(1, best))) < at(best):
        best += int(math.copysign(1, best))
    if abs(best) == MOST:
        return USUAL * math.exp(best * STEP)
    before, here, after = at(best - 1), at(best), at(best + 1)
    bend = before - 2 * here + after
    shift = 0.5 * (before - after) / bend if bend > 1e-9 else 0.0
    return USUAL * math.exp((best + float(np.clip(shift, -0.5, 0.5))) * STEP)


def chooser(focal: float | None) -> Chooser:
    """`most_likely_focal`, or a focal length that is known, px of the crop, kept within the range of that."""
    if focal is None:
        return most_likely_focal
    limit = MOST * STEP
    kept = USUAL * math.exp(float(np.clip(math.log(focal / USUAL), -limit, limit)))
    return lambda cost: kept


def seen_with(view: View, focal: float) -> View:
    """The view through a source camera of that focal length."""
    K, viewmat = source_camera(focal)
    return replace(view, K=K, viewmat=viewmat)


def moved_back(state: State, factor: float) -> State:
    """The state where a focal length `factor` times as long draws it as large: the camera stands at
    z = focal / FOCAL and the head near 0."""
    return replace(state, position=state.position * np.array([1.0, 1.0, factor]))
