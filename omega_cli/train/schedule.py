"""What changes over a run: the learning rate, and the pull of the side views (paper 3.4)."""

from __future__ import annotations

import math
from typing import Protocol

MV_FIRST, MV_LAST = 1.0, 0.1  # lambda_mv at the start and at the end  # ours


class Rates(Protocol):
    """rate: the highest; warmup: steps to it; decay_from: share of the run at which it starts to fall."""

    @property
    def rate(self) -> float: ...
    @property
    def warmup(self) -> int: ...
    @property
    def decay_from(self) -> float: ...


def learning_rate(rates: Rates, step: int, progress: float) -> float:
    """Linear warm-up, constant, cosine to 2 %. progress: share of the run, [0, 1]."""
    rise = min(1.0, (step + 1) / rates.warmup)
    past = max(0.0, (progress - rates.decay_from) / max(1e-9, 1 - rates.decay_from))
    return rates.rate * rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, past))))


def mv_weight(progress: float) -> float:
    """lambda_mv, progressive side-view decay: strong for the whole head first, then a cosine down to what
    leaves expressions free."""
    t = min(1.0, max(0.0, progress))
    return MV_LAST + (MV_FIRST - MV_LAST) * 0.5 * (1 + math.cos(math.pi * t))
