"""Eq. 6 and 7 and Table 3's switches."""

from __future__ import annotations

import pytest
import torch

from omega_cli.splat_uv.canonical import canonical_map
from omega_cli.splat_uv.fusion import fuse_views
from omega_cli.splat_uv.pixels import PixelSamples
from omega_cli.splat_uv.pyramid import splat_pyramid

SIZE, LEVELS = 32, 4
GAMMAS = [1.0, 0.7, 0.5]


def view(
    seed: int, count: int, low: float = 0.0, high: float = 1.0, cosine: float | None = None
) -> PixelSamples:
    """`count` points spread over a vertical band of the UV square."""
    g = torch.Generator().manual_seed(seed)
    uv = torch.rand(count, 2, generator=g)
    uv[:, 0] = low + (high - low) * uv[:, 0]
    facing = torch.rand(count, generator=g) if cosine is None else torch.full((count,), cosine)
    where = (torch.zeros(count, dtype=torch.long), torch.zeros(count, 3))
    return PixelSamples(torch.arange(count), uv, facing, torch.ones(count), *where)


@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"splat": "nearest"},
        {"hierarchical": False},
        {"visibility_fusion": False},
        {"confidence_power": 4.0},
    ],
)
def test_constant_features_fuse_to_exactly_that_constant(switches) -> None:
    """The literal eq. 7 (sums, not means) turns 3.0 into 46 to 84."""
    samples = [
        view(k, count, low, high)
        for k, (count, low, high) in enumerate([(700, 0.0, 0.6), (90, 0.3, 0.9), (5000, 0.5, 1.0)])
    ]
    images = [torch.full((1, len(s.pixel), 1), 3.0) for s in samples]
    out = canonical_map(images, samples, GAMMAS, uv_size=SIZE, levels=LEVELS, **switches)
    reached = out.features[0] != 0
    assert reached.float().mean() > 0.9
    assert (out.features[0][reached] - 3.0).abs().max() < 1e-5
    assert (out.features[0][~reached] == 0).all() and (out.weight[0][~reached] == 0).all()


def test_the_view_that_faces_a_texel_wins_and_more_so_with_power() -> None:
    facing, grazing = view(0, 9000, cosine=0.9), view(1, 9000, cosine=0.3)
    images = [torch.full((1, 9000, 1), 1.0), torch.full((1, 9000, 1), 0.0)]
    plain = canonical_map(images, [facing, grazing], [1.0, 1.0], uv_size=SIZE, levels=LEVELS).features
    assert torch.allclose(plain, torch.tensor(0.75), atol=0.01)  # 0.9 / (0.9 + 0.3): eq. 6 as it stands
    sharp = canonical_map(
        images, [facing, grazing], [1.0, 1.0], uv_size=SIZE, levels=LEVELS, confidence_power=4.0
    ).features
    assert sharp.min() > 0.98
    blind = canonical_map(
        images, [facing, grazing], [1.0, 0.1], uv_size=SIZE, levels=LEVELS, visibility_fusion=False
    ).features
    assert torch.allclose(blind, torch.tensor(0.5), atol=0.01)  # density alone: neither angle nor gamma


def test_view_weights_scale_as_eq_6_says() -> None:
    a, b = view(0, 9000, cosine=0.8), view(1, 9000, cosine=0.8)
    images = [torch.full((1, 9000, 1), 1.0), torch.full((1, 9000, 1), 0.0)]
    out = canonical_map(images, [a, b], [1.0, 0.5], uv_size=SIZE, levels=LEVELS).features
    assert torch.allclose(out, torch.tensor(2 / 3), atol=0.01)


def test_one_views_coarse_levels_do_not_wash_over_what_another_sees() -> None:
    left, right = view(0, 20_000, 0.0, 0.5), view(1, 20_000, 0.5, 1.0)
    images = [torch.full((1, 20_000, 1), 1.0), torch.full((1, 20_000, 1), 0.0)]
    out = canonical_map(images, [left, right], [1.0, 1.0], uv_size=SIZE, levels=LEVELS).features[0]
    assert out[:, : SIZE // 2 - 1].min() > 0.9 and out[:, SIZE // 2 + 1 :].max() < 0.1


def test_without_the_hierarchy_unseen_texels_stay_empty_and_with_it_they_do_not() -> None:
    sparse = view(0, 150)
    image = [torch.ones(1, 150, 1)]
    flat = canonical_map(image, [sparse], [1.0], uv_size=SIZE, hierarchical=False).features
    full = canonical_map(image, [sparse], [1.0], uv_size=SIZE, levels=LEVELS).features
    assert (flat == 0).float().mean() > 0.3 and (full == 0).sum() == 0


def test_order_of_views_is_irrelevant() -> None:
    parts = [splat_pyramid(torch.rand(300, 2), s.cosine, s.reliability, s.uv, SIZE, LEVELS)
             for s in (view(k, 300) for k in range(3))]  # fmt: skip
    fused, weight = fuse_views(parts, GAMMAS)
    again, weight_again = fuse_views(parts[::-1], GAMMAS[::-1])
    assert torch.allclose(fused, again, atol=1e-5) and torch.allclose(weight, weight_again, atol=1e-5)


def test_gradient_flows_from_the_map_to_every_views_features() -> None:
    samples = [view(k, 400) for k in range(3)]
    images = [torch.rand(2, 400, 1, requires_grad=True) for _ in samples]
    out = canonical_map(images, samples, GAMMAS, uv_size=SIZE, levels=LEVELS)
    out.features.sum().backward()
    # The map is a weighted mean: raising every feature by one raises every texel by one.
    total = sum(float(i.grad.sum()) for i in images)
    assert abs(total / (2 * SIZE * SIZE) - 1) < 1e-4
    assert all((i.grad >= 0).all() and (i.grad > 0).float().mean() > 0.9 for i in images)
