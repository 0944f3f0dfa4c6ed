"""The filter bank: RGB first, blind to the background, the same whichever way up."""

from __future__ import annotations

import torch

from omega_cli.splat_uv.features import CHANNELS, filter_bank, filter_banks, identity_vector
from omega_cli.splat_uv.picture import coverage_picture, pca_picture


def photo(side: int = 96):
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 12, 12, generator=g)
    rgb = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")[0].clamp(0, 1)
    mask = torch.zeros(1, side, side)
    mask[:, 20:80, 16:70] = 1
    return rgb, mask


def test_rgb_comes_first_and_unchanged() -> None:
    rgb, mask = photo()
    bank = filter_bank(rgb, mask)
    assert bank.shape[0] == len(CHANNELS) and torch.equal(bank[:3], rgb)


def test_what_lies_outside_the_mask_changes_nothing_inside() -> None:
    rgb, mask = photo()
    other = torch.where(mask > 0, rgb, 1 - rgb)
    inside = torch.nn.functional.max_pool2d(1 - mask, 3, 1, 1) == 0
    difference = (filter_bank(rgb, mask) - filter_bank(other, mask)).abs() * inside
    assert difference.max() < 1e-5
    assert torch.allclose(
        identity_vector(filter_bank(rgb, mask), inside.float()),
        identity_vector(filter_bank(other, mask), inside.float()),
        atol=1e-5,
    )


def test_turning_the_picture_turns_the_bank() -> None:
    rgb, mask = photo()
    turned = filter_bank(rgb.rot90(1, (1, 2)), mask.rot90(1, (1, 2)))
    assert torch.allclose(turned, filter_bank(rgb, mask).rot90(1, (1, 2)), atol=1e-5)


def test_a_flat_picture_has_no_edges_and_no_blobs() -> None:
    _, mask = photo()
    bank = filter_bank(torch.full((3, 96, 96), 0.4), mask)
    names = {name: bank[i] for i, name in enumerate(CHANNELS)}
    inside = torch.nn.functional.max_pool2d(1 - mask, 5, 1, 2)[0] == 0
    assert all(names[n][inside].abs().max() < 1e-3 for n in names if n.startswith(("edge", "blob")))


def test_pictures_are_in_range_and_repeatable() -> None:
    g = torch.Generator().manual_seed(0)
    features, weight = torch.randn(8, 32, 32, generator=g), torch.rand(1, 32, 32, generator=g)
    weight[:, :8] = 0
    first = pca_picture(features, weight)
    assert torch.equal(first, pca_picture(features, weight)) and (first[:, :8] == 0).all()
    for picture in (first, coverage_picture(weight)):
        assert picture.shape == (3, 32, 32) and picture.min() >= 0 and picture.max() <= 1


def test_several_views_at_once_are_each_alone_whatever_their_sizes() -> None:
    views = [photo(96), photo(128)]
    for bank, view in zip(filter_banks(*zip(*views, strict=True)), views, strict=True):
        assert torch.equal(bank, filter_bank(*view))


def test_banks_made_together_are_each_alone() -> None:
    views = [photo(96), (photo(96)[0].flip(1), photo(96)[1].rot90(1, (1, 2)))]
    (together,) = filter_banks(*zip(*views, strict=True), together=True)
    for bank, view in zip(together, views, strict=True):
        torch.testing.assert_close(bank, filter_bank(*view), atol=1e-6, rtol=0)
