import math

import torch

from omega_cli.mv_diffuse import blur, hair


def ring(n: int, height: float) -> torch.Tensor:
    angle = torch.linspace(-math.pi, math.pi, n + 1)[:-1]
    return torch.stack([0.09 * angle.sin(), torch.full((n,), height), 0.09 * angle.cos()], 1)


def test_chart_runs_from_the_crown_down_and_around_the_head_with_the_forehead_in_the_middle():
    crown = torch.tensor(hair.SKULL_CENTRE) + 0.1 * torch.tensor(hair.CROWN_AXIS)
    assert hair.chart_coordinates(crown[None])[0, 1] < 0.02
    forehead, nape = hair.chart_coordinates(torch.tensor([[0.0, 0.05, 0.08], [0.0, 0.0, -0.1]]))
    assert abs(float(forehead[0]) - 0.5) < 1e-3
    assert min(float(nape[0]), 1 - float(nape[0])) < 1e-3
    below = hair.chart_coordinates(torch.tensor([[0.0, -0.02, -0.1], [0.0, -0.12, -0.1]]))
    assert below[1, 1] > below[0, 1]


def test_synthesis_has_the_contrast_of_the_photo_in_both_modes():
    g = torch.Generator().manual_seed(0)
    v, u = torch.meshgrid(torch.linspace(0.1, 0.5, 128), torch.linspace(0.4, 0.6, 128), indexing="ij")
    coordinates = torch.stack([u.flatten(), v.flatten()], 1)
    detail = 0.1 * torch.sin(u.flatten() * 900)[:, None].expand(-1, 3)
    for known in (detail, detail[:30]):
        chart = hair.synthesise_chart(known, coordinates[: len(known)], g)
        assert chart.shape == (3, *hair.CHART)
        assert 0.5 < float(chart.std() / known.std()) < 1.6
        assert abs(float(chart.mean())) < 0.3 * float(chart.std())


def test_little_hair_is_not_repeated_like_scales():
    """Hair hardly larger than a patch, light in its middle: no grid of it may show."""
    v, u = torch.meshgrid(torch.linspace(0.2, 0.37, 160), torch.linspace(0.46, 0.55, 160), indexing="ij")
    coordinates = torch.stack([u.flatten(), v.flatten()], 1)
    noise = torch.randn(len(coordinates), generator=torch.Generator().manual_seed(2))
    detail = (0.1 * torch.sin(18 * (v.flatten() - 0.2)) + 0.01 * noise)[:, None].expand(-1, 3)
    _, known = hair.chart_exemplar(detail, coordinates)
    assert known.sum() > hair.PATCH[0] * hair.PATCH[1]
    chart = hair.synthesise_chart(detail, coordinates, torch.Generator().manual_seed(0)).mean(0)
    rows = chart.mean(1)  # what all columns share: the rows of a grid
    assert float(rows.std()) < 0.4 * float(chart.std())  # 0.74 with the patches as they are


def test_chart_reads_are_periodic_in_the_angle():
    chart = torch.rand(3, *hair.CHART, generator=torch.Generator().manual_seed(1))
    left = hair.read_chart(chart, torch.tensor([[1e-6, 0.3]]))
    right = hair.read_chart(chart, torch.tensor([[1 - 1e-6, 0.3]]))
    assert torch.allclose(left, right, atol=1e-3)


def test_masked_blur_of_a_constant_is_the_constant_inside_the_mask():
    mask = torch.zeros(1, 40, 40)
    mask[:, 10:30, 10:30] = 1
    values = torch.where(mask > 0, 0.4, 9.0)
    assert torch.allclose(blur.within(values, mask, 3.0)[:, 12:28, 12:28], torch.tensor(0.4), atol=1e-4)
