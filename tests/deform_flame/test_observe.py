"""What the views are read for: contours, distances to the masks' edges, averaged maps."""

from __future__ import annotations

import math

import pytest
import torch
import trimesh

from omega_cli.deform_flame.observe import contour, march, sample
from omega_cli.deform_flame.views import Views, prepare_view, stack_views
from omega_cli.geometry.camera import Camera, orthographic, perspective
from omega_cli.geometry.mesh import vertex_normals
from omega_cli.geometry.raster import rasterize_views


def bare(*cameras: Camera) -> Views:
    """Views without a picture."""
    size = cameras[0].width
    return stack_views(
        [
            prepare_view(camera, torch.zeros(3, size, size), torch.zeros(1, size, size), size)
            for camera in cameras
        ]
    )


def test_a_spheres_contour_is_a_great_circle() -> None:
    ball = trimesh.creation.icosphere(subdivisions=5, radius=0.1)
    vertices, faces = torch.tensor(ball.vertices).float(), torch.tensor(ball.faces).long()
    cameras = [orthographic(37.0, 128, 0.2, elevation_deg=11.0), orthographic(-100.0, 128, 0.2)]
    everywhere = torch.ones(len(faces), dtype=torch.bool)
    view, points, length = contour(
        vertices, vertex_normals(vertices, faces), faces, bare(*cameras), everywhere
    )
    where = points(vertices)
    assert torch.allclose(where.norm(dim=1), torch.full((len(where),), 0.1), atol=2e-4)
    assert torch.allclose(points.barycentric.sum(1), torch.ones(len(where)), atol=1e-6)
    for k, camera in enumerate(cameras):
        assert (where[view == k] @ camera.forward).abs().max() < 5e-4
        assert float(length[view == k].sum()) == pytest.approx(2 * math.pi * 0.1, rel=5e-3)


def test_the_batch_of_views_says_what_its_cameras_say() -> None:
    cameras = [orthographic(37.0, 64, 0.2, elevation_deg=11.0), perspective(-80.0, 64, 0.2)]
    views = bare(*cameras)
    points = 0.1 * torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    view = torch.arange(40) % 2
    towards = views.towards_all(points)
    for k, camera in enumerate(cameras):
        mine = points[view == k]
        assert torch.allclose(views.project(view, points)[view == k], camera.project(mine)[0], atol=2e-5)
        assert torch.allclose(towards[k], camera.view_directions(points), atol=1e-6)
        assert torch.allclose(views.towards(view, points)[view == k], towards[k][view == k], atol=1e-6)
        assert torch.allclose(
            views.across(view, points)[view == k], mine @ camera.viewmat[:2, :3].T, atol=1e-6
        )
        size = views.scale(view, points)[view == k]
        depth = camera.to_camera(mine)[:, 2] if camera.model == "pinhole" else 1.0
        assert torch.allclose(size, camera.K[0, 0] / depth, rtol=1e-5)
    assert views.finest == pytest.approx(64 / 0.4)  # both see 0.4 m of the head


def test_the_batch_draws_what_each_camera_sees() -> None:
    ball = trimesh.creation.icosphere(subdivisions=3, radius=0.1)
    vertices, faces = torch.tensor(ball.vertices).float(), torch.tensor(ball.faces).long()
    cameras = [orthographic(37.0, 64, 0.2, elevation_deg=11.0), perspective(-80.0, 64, 0.2)]
    drawn, one_by_one = bare(*cameras).rasterize(vertices, faces), rasterize_views(vertices, faces, cameras)
    # a pixel centre on an edge may fall to either face
    assert (drawn.face_index == one_by_one.face_index).float().mean() > 0.999
    covered = drawn.mask & one_by_one.mask
    assert torch.allclose(drawn.depth[covered], one_by_one.depth[covered], atol=1e-5)


def test_samples_of_a_picture_are_bilinear_and_do_not_see_the_next_one() -> None:
    pictures = torch.rand(6, 9, 9, generator=torch.Generator().manual_seed(1))
    i, j = torch.meshgrid(torch.arange(9), torch.arange(9), indexing="ij")
    centres = torch.stack([j, i], -1).reshape(1, -1, 2).expand(6, -1, -1) + 0.5
    found = sample(pictures, torch.arange(6), centres)
    assert torch.allclose(found, pictures.reshape(6, -1), atol=3e-6)
    between = sample(pictures, torch.tensor([4]), torch.tensor([[3.0, 6.0]]))
    assert torch.allclose(between, pictures[4, 5:7, 2:4].mean(), atol=3e-6)
    assert torch.allclose(sample(pictures, torch.tensor([2]), torch.tensor([[-7.0, 0.5]])), pictures[2, 0, 0])


def disk(size: int, radius: float) -> torch.Tensor:
    """Anti-aliased disk [1, size, size] about the middle."""
    at = (torch.arange(8 * size) + 0.5) / 8 - size / 2
    inside = (at[:, None] ** 2 + at**2 < radius**2).float()
    return torch.nn.functional.avg_pool2d(inside[None], 8)


def test_march_measures_a_disk_to_a_tenth_of_a_pixel_from_both_sides() -> None:
    size, radius = 128, 40.3
    masks = torch.cat([disk(size, radius), torch.zeros(1, size, size), disk(size, radius)])
    angle = torch.linspace(0, 2 * math.pi, 33)[:-1]
    step = torch.stack([angle.cos(), angle.sin()], 1)
    view = torch.arange(32) % 2 * 2
    for start in (22.0, 39.9, 41.0, 50.0):
        distance, found = march(masks, view, size / 2 + start * step, step, 16, 47)
        assert found.all()
        assert torch.allclose(distance, torch.full_like(angle, radius - start), atol=0.1)


def test_march_finds_nothing_beyond_the_picture_or_its_reach() -> None:
    right, first = torch.tensor([[1.0, 0.0]]), torch.tensor([0])

    def found(mask: torch.Tensor, pixel: list[float], outward: int) -> bool:
        return bool(march(mask, first, torch.tensor([pixel]), right, 16, outward)[1].any())

    assert not found(torch.ones(1, 64, 64), [40.0, 32.0], 62)  # cut by the picture's edge: no outline there
    assert not found(disk(128, 40.0), [64.0, 64.0], 22)
    assert not found(torch.zeros(1, 64, 64), [40.0, 32.0], 22)
    assert found(disk(128, 40.0), [64.0, 64.0], 42)


def test_smaller_maps_stay_clear_of_the_background() -> None:
    camera = orthographic(0.0, 64, 0.2)
    mask = disk(64, 20.0)
    normal = torch.tensor([0.6, 0.0, 0.8])[:, None, None] * (mask > 0)
    view = prepare_view(camera, normal, mask, 16)
    seen = view.mask[0] > 0
    assert torch.allclose(view.normal[:, seen], torch.tensor([[0.6], [0.0], [0.8]]), atol=1e-6)
    assert float(view.mask.mean()) == pytest.approx(float(mask.mean()), abs=1e-6)
    assert (view.camera.width, float(view.camera.K[0, 0])) == (16, float(camera.K[0, 0]) / 4)
