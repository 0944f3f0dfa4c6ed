"""Clothes at the neck: as the photo shows them, and where it shows them beside the neck alone."""

import pytest
import torch
from torch import Tensor

from omega_cli.geometry.camera import perspective
from omega_cli.geometry.raster import rasterize
from omega_cli.head.assets import load_head
from omega_cli.mv_diffuse.photo import Photo
from omega_cli.mv_diffuse.texture import (
    CLOTH,
    NECK,
    Evidence,
    Surface,
    cloth_beside,
    cloth_field,
    mirror_of,
    rising,
)

SIZE = 64


@pytest.fixture(scope="module")
def surface() -> Surface:
    model = load_head()
    return Surface.of(model, model.v_template, mirror_of(model))


def seen_in_front(surface: Surface, cloth: Tensor) -> Evidence:
    """Everything that faces forward: cloth where it is so, neck elsewhere."""
    label = torch.where(cloth, CLOTH, NECK)
    return Evidence(torch.zeros(len(label), 3), (surface.normals[:, 2] > 0.3).float(), label)


def photo_of(surface: Surface, labels: Tensor) -> Photo:
    camera = perspective(0, SIZE, 0.25)
    depth = rasterize(surface.vertices, surface.model.faces, camera).depth
    return Photo(torch.zeros(3, SIZE, SIZE), torch.ones(1, SIZE, SIZE), labels, depth, camera)


def behind(surface: Surface, height: Tensor, low: float, high: float) -> Tensor:  # [V] bool
    """The neck's back between two heights."""
    return surface.model.regions["neck"] & (surface.normals[:, 2] < -0.5) & (height > low) & (height < high)


def test_behind_the_collar_is_as_high_as_in_front(surface: Surface) -> None:
    height = surface.vertices[:, 1]
    photo = photo_of(surface, torch.zeros(SIZE, SIZE, dtype=torch.long))
    neck = surface.model.regions["neck"] & (surface.normals[:, 2] > 0.3)
    collar = float(height[neck].quantile(0.4))
    dressed = cloth_field(surface, photo, seen_in_front(surface, height < collar))
    assert float(dressed[neck & (height < collar - 0.01)].mean()) > 0.8
    assert float(dressed[behind(surface, height, collar + 0.012, 1.0)].mean()) < 0.1


def test_a_neckline_that_the_mesh_does_not_meet_is_dressed_behind(surface: Surface) -> None:
    bare = seen_in_front(surface, surface.vertices[:, 1] > 9)
    labels = torch.full((SIZE, SIZE), NECK)
    assert not cloth_field(surface, photo_of(surface, labels), bare).any()
    labels[45:, :18] = labels[45:, 46:] = CLOTH  # both shoulders
    dressed, height = cloth_field(surface, photo_of(surface, labels), bare), rising(surface.vertices)
    assert float(dressed[behind(surface, height, -0.2, -0.165)].mean()) > 0.7
    assert float(dressed[behind(surface, height, -0.12, -0.05)].mean()) < 0.1
    throat = surface.model.regions["neck"] & (surface.normals[:, 2] > 0.5)
    assert float(dressed[throat].max()) < 0.3  # the photo shows its skin


def test_the_shoulders_are_met_where_their_crest_lies(surface: Surface) -> None:
    labels = torch.full((SIZE, SIZE), NECK)
    labels[45:, :18] = CLOTH
    photo = photo_of(surface, labels)
    points = cloth_beside(photo)
    pixels, _ = photo.camera.project(points)
    assert bool((points[:, 2] < 0).all()) and float(pixels[:, 0].max()) < 18
    assert torch.allclose(pixels[:, 1], pixels[:1, 1], atol=1e-3) and 45 < float(pixels[0, 1]) < 49
    assert not len(cloth_beside(photo_of(surface, torch.full((SIZE, SIZE), NECK))))
