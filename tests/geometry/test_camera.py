import pytest
import torch

from omega_cli.geometry.camera import Camera, orthographic, perspective

CAMERAS = [perspective(30.0, 256, 0.2, elevation_deg=-15.0), orthographic(-70.0, 256, 0.2)]


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda c: c.model)
def test_unproject_takes_project_back(camera: Camera):
    points = 0.1 * torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    pixels, depth = camera.project(points)
    assert torch.allclose(camera.unproject(pixels, depth), points, atol=1e-6)


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda c: c.model)
def test_a_resized_camera_sees_the_same_points_at_scaled_pixels(camera: Camera):
    points = 0.1 * torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    small, _ = camera.resized(64, 128).project(points)
    assert torch.allclose(small, camera.project(points)[0] * torch.tensor([0.25, 0.5]), atol=1e-4)
