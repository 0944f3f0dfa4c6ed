"""A bald sphere in front of a larger disc must grow to the disc's outline where it has a scalp."""

import numpy as np
import pytest
import torch
import trimesh

from omega_cli.geometry.camera import perspective
from omega_cli.mv_diffuse.inflate import Outline, inflate, march


def sphere() -> tuple[np.ndarray, torch.Tensor, dict[str, np.ndarray], np.ndarray]:
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=0.1)
    vertices = np.asarray(mesh.vertices)
    scalp = (vertices[:, 1] > 0.0) | (vertices[:, 2] < -0.03)
    none = np.zeros(len(vertices), bool)
    regions = {"scalp": scalp, "neck": none, "left_ear": none, "right_ear": none}
    mirror = np.argmin(((vertices[:, None, :] * [-1, 1, 1] - vertices[None]) ** 2).sum(-1), 1)
    return vertices, torch.from_numpy(np.asarray(mesh.faces)).long(), regions, mirror


@pytest.mark.parametrize("azimuth", [0.0, 25.0])
def test_the_scalp_meets_the_outline_and_the_face_stays(azimuth: float):
    vertices, faces, regions, mirror = sphere()
    camera = perspective(azimuth, 256, 0.2)
    y, x = np.mgrid[:256, :256] + 0.5
    radius = 0.13 / 0.2 * 128
    disc = (x - 128) ** 2 + (y - 128) ** 2 < radius**2
    moved = vertices + inflate(
        vertices, faces, regions, mirror, camera, Outline(disc, disc, np.ones_like(disc)), 0.0
    )
    face = ~regions["scalp"]
    assert np.abs(moved - vertices)[face].max() == 0
    pixels, _ = camera.project(torch.from_numpy(moved).float())
    top = np.linalg.norm(pixels.numpy() - 128, axis=1)[vertices[:, 1] > 0.05].max()
    assert abs(top - radius) < 4
    back = np.linalg.norm(moved, axis=1)[vertices[:, 2] < -0.09]
    assert 0.11 < back.mean() < 0.15


def test_hair_that_the_photo_cuts_reaches_the_photos_edge():
    """Less would leave a waist, or a flat crown, there. Here the photo ends within the hair all around."""
    vertices, faces, regions, mirror = sphere()
    camera = perspective(0.0, 256, 0.2)
    y, x = np.mgrid[:256, :256] + 0.5
    edge = 0.12 / 0.2 * 128
    photo = (x - 128) ** 2 + (y - 128) ** 2 < edge**2
    moved = vertices + inflate(vertices, faces, regions, mirror, camera, Outline(photo, photo, photo), 0.0)
    pixels = camera.project(torch.from_numpy(moved).float())[0].numpy() - 128
    high = regions["scalp"] & (vertices[:, 1] > 0.05)
    assert np.linalg.norm(pixels[high], axis=1).max() == pytest.approx(edge, abs=4)
    bare = camera.project(torch.from_numpy(vertices).float())[0].numpy() - 128
    assert np.linalg.norm(bare[high], axis=1).max() < edge - 10


def test_march_measures_both_ways_and_distrusts_the_frame():
    head = np.zeros((100, 100), bool)
    head[:, 20:60] = True
    outline = Outline(head, head, np.ones_like(head))
    start = np.array([[50.0, 50.0], [70.0, 50.0], [50.0, 50.0]])
    direction = np.array([[1.0, 0], [1.0, 0], [0.0, -1.0]])
    distance, valid, least = march(start, direction, outline, np.zeros(3, bool), 80.0)
    assert distance[0] == pytest.approx(10, abs=1) and distance[1] == pytest.approx(-10, abs=1)
    assert valid.tolist() == [True, True, False]
    assert least.tolist() == [False, False, True] and distance[2] == pytest.approx(49, abs=1)
