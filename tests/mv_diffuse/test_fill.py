import numpy as np
import torch

from omega_cli.mv_diffuse.fill import harmonic_fill, push_pull


def test_push_pull_keeps_known_texels_and_fills_the_rest_within_their_range():
    g = torch.Generator().manual_seed(0)
    values = torch.rand(3, 37, 50, generator=g)
    weight = (torch.rand(1, 37, 50, generator=g) > 0.7).float()
    filled = push_pull(values, weight)
    known = weight[0] > 0
    assert torch.equal(filled[:, known], values[:, known])
    assert filled.min() >= values[:, known].min() - 1e-5
    assert filled.max() <= values[:, known].max() + 1e-5


def test_push_pull_of_a_constant_is_that_constant_and_of_nothing_is_zero():
    weight = torch.zeros(1, 33, 20)
    weight[0, 5, 7] = 1
    assert torch.allclose(
        push_pull(torch.full((2, 33, 20), 0.3), weight), torch.full((2, 33, 20), 0.3), atol=1e-6
    )
    assert push_pull(torch.rand(2, 33, 20), torch.zeros(1, 33, 20)).abs().max() == 0


def test_harmonic_fill_interpolates_a_chain_linearly_and_leaves_the_outside_alone():
    n = 11
    edges = np.stack([np.arange(n - 1), np.arange(1, n)], 1)
    values, confidence = np.zeros((n, 1)), np.zeros(n)
    values[9] = 1.0
    confidence[[0, 9]] = 1e6
    domain = np.arange(n) < 10
    values[10] = 7.0
    filled = harmonic_fill(values, confidence, edges, domain)[:, 0]
    np.testing.assert_allclose(filled[:10], np.arange(10) / 9, atol=1e-3)
    assert filled[10] == 7.0


def test_harmonic_fill_gives_unreached_pieces_the_mean():
    edges = np.array([[0, 1], [2, 3]])
    values = np.array([[2.0], [0.0], [0.0], [0.0]])
    filled = harmonic_fill(values, np.array([5.0, 0, 0, 0]), edges, np.ones(4, bool))
    np.testing.assert_allclose(filled[:, 0], 2.0, atol=1e-4)
