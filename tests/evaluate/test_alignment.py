"""Landmarks to a place in the world: exact where the data are exact, and unmoved by a stray camera."""

from __future__ import annotations

import pytest
import torch

from omega_cli.evaluate.alignment import azimuth_elevation, triangulate, wide_enough
from omega_cli.geometry.camera import orthographic, perspective
from omega_cli.geometry.rotation import axis_angle_to_matrix
from omega_cli.geometry.similarity import Similarity, similarity

POINTS = 0.1 * torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
CAMERAS = [perspective(a, 256, 0.2, elevation_deg=e) for a, e in ((0, 0), (30, 10), (-45, -5), (70, 20))]
PLACE = Similarity(
    torch.tensor(1.3), axis_angle_to_matrix(torch.tensor([0.3, -0.8, 0.2])), torch.tensor([0.05, -0.02, 0.1])
)


def test_points_come_back_from_their_pixels() -> None:
    pixels = [camera.to("cpu", torch.float64).project(POINTS)[0] for camera in CAMERAS]
    points, error = triangulate(pixels, CAMERAS)
    torch.testing.assert_close(points, POINTS, atol=1e-7, rtol=0)
    assert error.max() < 1e-4


def test_one_camera_that_is_wrong_is_left_out() -> None:
    g = torch.Generator().manual_seed(1)
    pixels = [c.to("cpu", torch.float64).project(POINTS)[0] for c in CAMERAS]
    pixels = [p + 0.3 * torch.randn(p.shape, generator=g, dtype=p.dtype) for p in pixels]
    pixels[2] = pixels[2] + 25.0
    points, error = triangulate(pixels, CAMERAS)
    assert float((points - POINTS).norm(dim=1).mean()) < 1.5e-3 and error[2] > 20 > 2 > error[[0, 1, 3]].max()
    with pytest.raises(ValueError, match="needs 2 cameras, got 1"):
        triangulate(pixels[:1], CAMERAS[:1])


def test_similarity_is_found_and_is_no_reflection() -> None:
    source = POINTS.float()
    found = similarity(source, PLACE(source))
    torch.testing.assert_close(found.scale, PLACE.scale, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.R, PLACE.R, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.t, PLACE.t, atol=1e-5, rtol=0)
    mirrored = similarity(source, source * torch.tensor([-1.0, 1.0, 1.0]))
    assert float(torch.det(mirrored.R)) > 0.99


@pytest.mark.parametrize("camera", [CAMERAS[1], orthographic(20, 256, 0.3)], ids=["pinhole", "ortho"])
def test_a_camera_in_the_head_frame_sees_the_same_pixels(camera) -> None:
    points = POINTS.float()
    wanted, depth = camera.project(PLACE(points))
    got, own_depth = PLACE.seen_by(camera).project(points)
    torch.testing.assert_close(got, wanted, atol=2e-2 * 0.05, rtol=1e-5)
    torch.testing.assert_close(own_depth * PLACE.scale, depth, atol=1e-5, rtol=1e-5)


def test_directions_are_those_of_the_orbit() -> None:
    for azimuth, elevation in ((0, 0), (90, 0), (-45, 30), (170, -15)):
        found = azimuth_elevation(orthographic(azimuth, 64, 0.2, elevation_deg=elevation))
        assert found == pytest.approx((azimuth, elevation), abs=1e-3)


def test_two_cameras_side_by_side_do_not_outvote_the_third() -> None:
    """Neighbours agree about any depth: the camera that alone can judge it stays, though it looks stray."""
    cameras = [perspective(a, 256, 0.2) for a in (0, 3, -45)]
    g = torch.Generator().manual_seed(2)
    pixels = [c.to("cpu", torch.float64).project(POINTS)[0] for c in cameras]
    pixels = [p + 2 * torch.randn(p.shape, generator=g, dtype=p.dtype) for p in pixels]
    pixels[2] += 4.0  # a landmark network's own shift at three quarters
    points, _ = triangulate(pixels, cameras)
    assert float((points - POINTS).norm(dim=1).mean()) < 0.01  # m; the neighbours alone: 0.03 and more
    alone, _ = triangulate(pixels[:2], cameras[:2])
    assert float((alone - POINTS).norm(dim=1).mean()) > 0.03
    assert not wide_enough(cameras[:2]) and wide_enough(cameras) and not wide_enough(cameras[2:])
