"""Symmetric positive definite systems of fixed sparsity: factorised sparse on a CPU, dense on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from omega_cli.geometry.sparse import factorise


@dataclass(frozen=True)
class Pattern:
    """Entries (row, column) [E] of a symmetric [N, N] matrix, in order of rows, then columns; those not
    named are 0. blocks: sizes of its diagonal blocks, which nothing couples; they sum to N."""

    row: Tensor
    column: Tensor
    blocks: tuple[int, ...]


@dataclass(frozen=True)
class Factor:
    """solve: g [N, C] -> x [N, C] of H x = g, float64. failed []: not 0 where H is not positive definite
    (on the device, so that asking costs nothing)."""

    solve: Callable[[Tensor], Tensor]
    failed: Tensor


class SparseFactoriser:
    """SuperLU on the CPU: 35 ms for the open head (7,079 unknowns, 450,000 entries of the factor), where
    the dense one takes 1.4 s of one core."""

    def __init__(self, pattern: Pattern) -> None:
        N = sum(pattern.blocks)
        self.shape = (N, N)
        self.column = pattern.column.cpu().numpy().astype(np.int32)
        count = torch.bincount(pattern.row, minlength=N).cumsum(0).cpu().numpy()
        self.start = np.concatenate([[0], count]).astype(np.int32)

    def __call__(self, values: Tensor) -> Factor:  # [E] float64
        # symmetric: its rows are its columns
        H = sp.csc_matrix((values.cpu().numpy(), self.column, self.start), self.shape)
        factor = factorise(H)

        def solve(g: Tensor) -> Tensor:
            return torch.from_numpy(factor.solve(g.cpu().numpy())).to(g.device)

        return Factor(solve, values.new_zeros(()))


class DenseFactoriser:
    """Cholesky of the dense blocks, on the values' own device.

    torch has no sparse factorisation on a GPU, and this needs none: 3e10 flop for the open head. float64,
    because the condition number reaches 2e9 where faces near to folding stiffen H: float32 solves came
    within 1e-5 to 1e-4 of the right step, but nothing promises that they end.
    """

    def __init__(self, pattern: Pattern) -> None:
        self.blocks: list[tuple[int, int, slice, Tensor]] = []  # first unknown, size, entries, their places
        begin, entry = 0, 0
        ends = torch.searchsorted(
            pattern.row.contiguous(), torch.tensor(pattern.blocks, device=pattern.row.device).cumsum(0)
        ).tolist()
        for size, end in zip(pattern.blocks, ends, strict=True):
            part = slice(entry, end)
            place = (pattern.row[part] - begin) * size + (pattern.column[part] - begin)
            self.blocks.append((begin, size, part, place))
            begin, entry = begin + size, end

    def __call__(self, values: Tensor) -> Factor:  # [E] float64
        parts, failed = [], []
        for begin, size, part, place in self.blocks:
            H = values.new_zeros(size * size).index_copy_(0, place, values[part]).view(size, size)
            lower, info = torch.linalg.cholesky_ex(H)
            parts.append((slice(begin, begin + size), lower))
            failed.append(info)

        def solve(g: Tensor) -> Tensor:
            return torch.cat([torch.cholesky_solve(g[rows], lower) for rows, lower in parts])

        return Factor(solve, torch.stack(failed).abs().sum())


Factoriser = SparseFactoriser | DenseFactoriser


def factoriser(pattern: Pattern) -> Factoriser:
    """The faster one on the pattern's device."""
    return SparseFactoriser(pattern) if pattern.row.device.type == "cpu" else DenseFactoriser(pattern)
