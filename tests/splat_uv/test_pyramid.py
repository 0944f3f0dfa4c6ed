"""Eq. 4 and 5 and the coarse-to-fine fill, on points whose answer is known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omega_cli.splat_uv.pyramid import (
    fill_holes,
    fill_masks,
    ratio,
    splat_pyramid,
    upsample_sums,
)

LEVELS, SIZE = 4, 32


def random_points(seed: int, count: int, channels: int = 3):
    g = torch.Generator().manual_seed(seed)
    uv = 0.15 + 0.7 * torch.rand(count, 2, generator=g)
    features = torch.rand(count, channels, generator=g)
    return features, torch.rand(count, generator=g), 0.1 + 0.9 * torch.rand(count, generator=g), uv


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31 - 1), st.integers(1, 400))
def test_every_level_holds_the_same_mass(seed: int, count: int) -> None:
    features, cosine, reliability, uv = random_points(seed, count)
    pyramid = splat_pyramid(features, cosine, reliability, uv, SIZE, LEVELS)
    for total, density, confidence in zip(pyramid.sums, pyramid.density, pyramid.confidence, strict=True):
        assert torch.allclose(density.sum(), reliability.sum(), rtol=1e-5)
        assert torch.allclose(confidence.sum(), (cosine * reliability).sum(), rtol=1e-5)
        assert torch.allclose(total.sum((1, 2)), (features * reliability[:, None]).sum(0), rtol=1e-5)


@pytest.mark.parametrize("splat", ["bilinear", "nearest"])
def test_mirrored_uv_gives_the_mirrored_map(splat) -> None:
    features, cosine, reliability, uv = random_points(1, 500)
    there = splat_pyramid(features, cosine, reliability, uv, SIZE, LEVELS, splat=splat)
    flipped = torch.stack([1 - uv[:, 0], uv[:, 1]], 1)
    back = splat_pyramid(features, cosine, reliability, flipped, SIZE, LEVELS, splat=splat)
    for a, b in zip(there.means(), back.means(), strict=True):
        assert torch.allclose(a, b.flip(-1), atol=2e-5)


def test_nearest_gives_each_pixel_to_its_own_texel_with_density_one() -> None:
    texel = torch.tensor([[3, 4], [3, 4], [17, 9]])
    uv = (texel + torch.tensor([[0.9, 0.1], [0.2, 0.6], [0.5, 0.99]])) / SIZE
    features = torch.tensor([[1.0], [3.0], [5.0]])
    pyramid = splat_pyramid(features, torch.ones(3), torch.ones(3), uv, SIZE, 1, splat="nearest")
    density, mean = pyramid.density[0][0], pyramid.means()[0][0]
    assert density.sum() == 2 and density[4, 3] == 1 and density[9, 17] == 1
    assert torch.isclose(mean[4, 3], torch.tensor(2.0)) and torch.isclose(mean[9, 17], torch.tensor(5.0))


def test_fill_masks_share_out_at_most_one_and_dense_texels_keep_their_own() -> None:
    density = [torch.zeros(1, SIZE >> level, SIZE >> level) for level in range(LEVELS)]
    for level, d in enumerate(density):
        d[:, :, : d.shape[-1] // 2] = 4.0**level * 3
    masks = torch.stack(fill_masks(density))
    assert (masks >= 0).all() and (masks.sum(0) <= 1 + 1e-6).all()
    assert masks[0, 0, :, : SIZE // 2].min() > 1 - 1e-4
    assert masks[:, 0, :, -1].max() == 0


def test_holes_are_filled_from_around_and_dense_texels_left_alone() -> None:
    """A smooth ramp sampled everywhere but in a hole 5 texels wide comes back as the ramp."""
    g = torch.Generator().manual_seed(0)
    uv = torch.rand(40_000, 2, generator=g)
    hole = ((uv * SIZE - 16).abs() < 2.5).all(1)
    uv = uv[~hole]
    ones = torch.ones(len(uv))
    pyramid = splat_pyramid(uv[:, :1], ones, ones, uv, SIZE, LEVELS)
    filled, share = fill_holes(pyramid.sums, pyramid.density)
    ramp = ((torch.arange(SIZE) + 0.5) / SIZE).expand(SIZE, SIZE)
    error = (filled[0] - ramp).abs()
    assert pyramid.density[0][0, 15:17, 15:17].max() == 0  # it is a hole indeed
    assert share.min() > 0.999
    # 1.8 texels seen, 1.1 for a hole one texel aside: of a coarse texel that the rim cuts the mean lies aside
    assert error[14:18, 14:18].max() < 2.0 / SIZE
    dense = torch.ones(SIZE, SIZE, dtype=torch.bool)
    dense[11:21, 11:21] = False
    assert error[2:-2, 2:-2][dense[2:-2, 2:-2]].max() < 0.5 / SIZE


def test_empty_texels_do_not_darken_what_is_upsampled() -> None:
    sums, density = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)
    sums[0, 1, 1], density[0, 1, 1] = 1.4, 2.0
    up = ratio(*upsample_sums(sums, density, 16))
    assert torch.allclose(up[up > 0], torch.tensor(0.7)) and up[0, 4:8, 4:8].min() > 0.69


def test_no_points_at_all_is_an_empty_pyramid() -> None:
    empty = torch.zeros(0)
    pyramid = splat_pyramid(torch.zeros(0, 3), empty, empty, torch.zeros(0, 2), SIZE, LEVELS)
    filled, share = fill_holes(pyramid.sums, pyramid.density)
    assert filled.abs().max() == 0 and share.max() == 0


def test_gradient_reaches_features_and_uv_in_double() -> None:
    features, cosine, reliability, uv = (t.double() for t in random_points(3, 12, 2))

    def run(f, u):
        pyramid = splat_pyramid(f, cosine, reliability, u, 8, 2)
        return fill_holes(pyramid.sums, pyramid.density)[0]

    inputs = (features.requires_grad_(), uv.requires_grad_())
    assert torch.autograd.gradcheck(run, inputs, eps=1e-7, atol=1e-4)


@pytest.mark.parametrize("splat", ["bilinear", "nearest"])
def test_views_together_are_each_alone(splat) -> None:
    views = [random_points(seed, 200) for seed in (1, 2, 3)]
    alone = [splat_pyramid(*view, SIZE, LEVELS, splat=splat) for view in views]
    stacked = (torch.stack(parts) for parts in zip(*views, strict=True))
    together = splat_pyramid(*stacked, SIZE, LEVELS, splat=splat)
    assert together.batched() is together
    for one, other in zip(alone, together.views(), strict=True):
        assert one.batched().views()[0].density[0].equal(one.density[0]) and one.views() == [one]
        for name in ("sums", "density", "confidence"):
            for a, b in zip(getattr(one, name), getattr(other, name), strict=True):
                assert torch.allclose(a, b, atol=1e-6)
