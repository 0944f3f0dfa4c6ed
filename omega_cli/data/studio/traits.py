"""Sex, age and weight in the open head's betas: faces that fit what a look says.

None of the basis' principal axes is sex or age, but the population that it was baked from knew both. How
they go together is what `python -m omega_cli.head.bake.traits` prints.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from omega_cli.head.model import HeadModel

TRAITS = ("male", "old", "weight")
MEAN = (0.4977, 0.2973, 0.0026)
SD = (0.3729, 0.2034, 0.3938)
# Covariance of each trait with every beta, in thousandths.
WITH_BETAS = (
    (-293, -147, -62, 47, 60, -10, -83, 57, 5, -28, -6, 20, -21, -10, 38, 1, 44, -15, 18, 8, 13, -32, -16,
     27, 23, -29, 12, 10, -5, -5, 8, -6, -2, 8, 1, 4, 11, 0, -11, 5, 4, -19, 0, -20, -2, -6, -6, 4, 13,
     12, -2, 3, 10, 4, -4, 5, 1, 4, -3, -3, -1, 1, 7, 1, 4, -1, -1, -1, 8, 4, -3, 8, -4, 4, -3, -5, 3, 1,
     -2, -3, -4, -2, -3, 4, 2, -12, -10, 0, 5, -9, 0, -2, -2, -7, -11, 2, 0, 14, -1, -7, -1, 2, -6, 6, -2,
     5, -1, -3, -4, 1, 8, 2, 8, 0, 0, -5, 1, 6, -1, 2),
    (-3, 3, -50, 34, 73, 86, 3, 69, -11, 39, -43, -45, 19, 9, -70, 0, -62, -11, -19, -11, -14, 27, 23,
     -20, -31, 21, -4, -10, 20, -10, -4, -4, 1, -7, 3, 8, -2, 0, -1, -4, 4, -1, -11, 7, -1, -3, 6, -1, 1,
     3, 5, -5, -5, -7, 9, 1, 2, -1, -3, 8, -2, 0, -7, 2, -1, -1, 3, 2, 0, 1, 0, 3, 4, -3, 1, 0, -3, 3, 7,
     2, 1, 4, 0, 1, -2, 3, -3, 1, -6, 1, 0, 1, -1, 3, 3, 1, 0, -4, 2, 1, -1, -2, 1, 2, -2, 0, 1, 1, 0, 0,
     3, 1, -4, -1, -1, 3, 1, -6, 1, 3),
    (-3, 0, -9, -3, 33, 69, -103, -144, 105, 81, 52, 57, -61, -92, -38, 0, -27, 23, -25, -27, 36, 35, 20,
     68, 4, -21, 1, 7, 36, -54, 53, -12, 2, -84, 54, -60, -32, 6, 51, 21, -38, 20, -8, 22, -3, -12, 54,
     -13, -17, 12, 24, -24, -15, -29, 23, 4, -5, -4, -4, 8, -3, -28, -24, -9, 0, 1, 30, 9, 9, 1, 0, 1, 29,
     -18, 8, -3, 1, 8, 22, 4, -25, 10, -28, 0, 45, 4, 11, -5, -14, 5, 7, -1, -3, -10, 25, -7, 3, 19, -3,
     -7, -3, -40, -3, 12, -15, 1, 4, -1, -4, 3, -8, 2, 25, -5, 11, 6, 0, 24, 1, -20),
)  # fmt: skip


@functools.cache
def _table() -> tuple[Tensor, Tensor]:
    """[3, S] correlations of the traits with the betas, and [S, 3] their pseudo-inverse."""
    reads = torch.tensor(WITH_BETAS) / 1000 / torch.tensor(SD)[:, None]
    return reads, torch.linalg.pinv(reads)


def reading(model: HeadModel) -> Tensor | None:
    """[3, S]: how the traits read, in standard deviations, for each unit of a beta; None for a head with
    other betas than the open head's."""
    reads, _ = _table()
    return reads if reads.shape[1] == model.S else None


def fitted(betas: Tensor, model: HeadModel, wanted: tuple[float, float, float]) -> Tensor:
    """betas [S], moved the shortest way to where the face reads as `wanted`: male (0 to 1), old (0: 25 years,
    1: 90) and weight (-1 to 1, about 0.4 wide in the population). A head with other betas is left alone."""
    reads, back = _table()
    if reads.shape[1] != model.S:
        return betas
    target = (torch.tensor(wanted) - torch.tensor(MEAN)) / torch.tensor(SD)
    return betas + back @ (target - reads @ betas)
