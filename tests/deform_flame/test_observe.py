"""What the views are read for: contours, distances to the masks' edges, averaged maps."""

from __future__ import annotations

import math

import pytest
import torch
import trimesh

from omega_cli.deform_flame.observe import contour, march, prepare_view
from omega_cli.geometry.camera import orthographic
from omega_cli.geometry.mesh import vertex_normals


def test_a_spheres_contour_is_a_great_circle() -> None:
    ball = trimesh.creation.icosphere(subdivisions=5, radius=0.1)
    vertices, faces = torch.tensor(ball.vertices).float(), torch.tensor(ball.faces).long()
    camera = orthographic(37.0, 128, 0.2, elevation_deg=11.0)
    points, length = contour(vertices, vertex_normals(vertices, faces), faces, camera)
    where = points(vertices)
    assert torch.allclose(where.norm(dim=1), torch.full((len(where),), 0.1), atol=2e-4)
    assert (where @ camera.forward).abs().max() < 5e-4
    assert float(length.sum()) == pytest.approx(2 * math.pi * 0.1, rel=5e-3)
    assert torch.allclose(points.barycentric.sum(1), torch.ones(len(where)), atol=1e-6)


def disk(size: int, radius: float) -> torch.Tensor:
    """Anti-aliased disk [1, size, size] about the middle."""
    at = (torch.arange(8 * size) + 0.5) / 8 - size / 2
    inside = (at[:, None] ** 2 + at**2 < radius**2).float()
    return torch.nn.functional.avg_pool2d(inside[None], 8)


def test_march_measures_a_disk_to_a_tenth_of_a_pixel_from_both_sides() -> None:
    size, radius, scale = 128, 40.3, 500.0
    angle = torch.linspace(0, 2 * math.pi, 33)[:-1]
    step = torch.stack([angle.cos(), angle.sin()], 1)
    for start in (22.0, 39.9, 41.0, 50.0):
        distance, found = march(disk(size, radius), size / 2 + start * step, step, 45.0, scale)
        assert found.all()
        assert torch.allclose(distance * scale, torch.full_like(angle, radius - start), atol=0.1)


def test_march_finds_nothing_beyond_the_picture_or_its_reach() -> None:
    mask = torch.ones(1, 64, 64)  # a mask cut by the picture's edge has no outline there
    right = torch.tensor([[1.0, 0.0]])
    assert not march(mask, torch.tensor([[40.0, 32.0]]), right, 60.0, 500.0)[1].any()
    assert not march(disk(128, 40.0), torch.tensor([[64.0, 64.0]]), right, 20.0, 500.0)[1].any()
    assert not march(torch.zeros(1, 64, 64), torch.tensor([[40.0, 32.0]]), right, 20.0, 500.0)[1].any()


def test_smaller_maps_stay_clear_of_the_background() -> None:
    camera = orthographic(0.0, 64, 0.2)
    mask = disk(64, 20.0)
    normal = torch.tensor([0.6, 0.0, 0.8])[:, None, None] * (mask > 0)
    view = prepare_view(camera, normal, mask, 16)
    seen = view.mask[0] > 0
    assert torch.allclose(view.normal[:, seen], torch.tensor([[0.6], [0.0], [0.8]]), atol=1e-6)
    assert float(view.mask.mean()) == pytest.approx(float(mask.mean()), abs=1e-6)
    assert (view.camera.width, float(view.camera.K[0, 0])) == (16, float(camera.K[0, 0]) / 4)
