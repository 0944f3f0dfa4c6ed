"""Pictures of a ball: those of one colouring agree, and a wrong one is found by as much as it is wrong."""

import pytest
import torch
import torch.nn.functional as F

from omega_cli.geometry.camera import Camera, orthographic
from omega_cli.geometry.raster import interpolate, rasterize
from omega_cli.geometry.reproject import colour_gap, normal_gap, pair
from tests.ball import make_ball

AZIMUTHS = (0, 45, 90, 180, 270, 315)


@pytest.fixture(scope="module")
def surface() -> tuple[torch.Tensor, torch.Tensor]:
    made = make_ball(48, 96)
    return made.vertices, made.faces


def picture(surface, camera: Camera, values: torch.Tensor) -> torch.Tensor:
    vertices, faces = surface
    return interpolate(rasterize(vertices, faces, camera), faces, values).permute(2, 0, 1)


def views(surface, values: torch.Tensor) -> list[tuple[Camera, torch.Tensor]]:
    cameras = [orthographic(a, 96, 0.12) for a in AZIMUTHS]
    return [(camera, picture(surface, camera, values)) for camera in cameras]


def test_views_of_one_colouring_agree(surface):
    colours = 0.5 + 3 * surface[0]  # smooth, in [0.1, 0.9]
    assert colour_gap(*surface, views(surface, colours)) < 2e-3
    assert normal_gap(*surface, views(surface, F.normalize(surface[0], dim=1))) < 0.6


def test_a_view_that_differs_is_seen_by_as_much_as_it_differs(surface):
    shown = views(surface, torch.full_like(surface[0], 0.4))
    camera, image = shown[1]
    shown[1] = camera, image + 0.3
    shares = [len(pair(*surface, shown[k - 1], shown[k]).first) for k in range(6)]
    wrong = 0.3 * (shares[1] + shares[2]) / sum(shares)  # two of the six pairs hold the odd view
    assert colour_gap(*surface, shown) == pytest.approx(wrong, rel=1e-3)


def test_a_point_behind_something_is_not_compared(surface):
    """A second ball hides a part of the first from one of the two cameras alone."""
    vertices, faces = surface
    front, side = orthographic(0, 96, 0.3), orthographic(45, 96, 0.3)
    screen = 0.5 * vertices + torch.tensor([0.0, 0.0, 0.2])
    both = torch.cat([vertices, screen]), torch.cat([faces, faces + len(vertices)])
    alone = pair(vertices, faces, (front, torch.zeros(1, 96, 96)), (side, torch.zeros(1, 96, 96)))
    image = torch.zeros(1, 96, 96)
    hidden = pair(*both, (front, image), (side, image))
    red = torch.cat([torch.zeros(len(vertices), 1), torch.ones(len(screen), 1)])
    shown = [(c, interpolate(rasterize(*both, c), both[1], red).permute(2, 0, 1)) for c in (front, side)]
    compared = pair(*both, *shown)
    assert 0 < len(hidden.first) < len(alone.first) + int((compared.second > 0.5).sum())
    assert 0.05 < float(compared.second.mean()) < 0.95
    assert float((compared.first - compared.second).abs().mean()) < 0.02
