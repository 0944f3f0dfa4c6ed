"""Sparse systems: the dense way of a GPU gives what the sparse way gives."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from omega_cli.geometry import sparse
from tests.named_gpu import named_gpu


@pytest.fixture(scope="module")
def system() -> sp.csr_matrix:
    rng = np.random.default_rng(0)
    links = sp.random(60, 60, 0.1, random_state=rng, format="csr")
    return sp.csr_matrix(links @ links.T + sp.eye(60))


@pytest.mark.parametrize("columns", [(), (3,)])
def test_both_ways_solve_the_system(system, columns):
    right = np.random.default_rng(1).normal(size=(60, *columns))
    found = sparse.solve(system, right)
    np.testing.assert_allclose(system @ found, right, atol=1e-10)
    with named_gpu():
        dense = sparse.solve(system, right, "cuda:0")
    assert dense.shape == right.shape
    np.testing.assert_allclose(dense, found, atol=1e-10)


def test_entries_named_twice_are_added_up(system):
    half = sp.coo_matrix(system / 2)
    rows, columns, data = (np.r_[a, a] for a in (half.row, half.col, half.data))
    twice = sp.coo_matrix((data, (rows, columns)), half.shape)
    right = np.ones(60)
    with named_gpu():
        found = sparse.solve(twice, right, "cuda:0")
    np.testing.assert_allclose(found, sparse.solve(system, right), atol=1e-10)
