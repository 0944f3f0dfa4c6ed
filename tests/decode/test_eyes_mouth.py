"""Eyes are completed around the iris that was seen; mouths are dark inside and teeth light."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from omega_cli.decode.eyes import EyeAngles, axis_from_angles, complete_eyeball, find_iris, standard_eye
from omega_cli.decode.mouth import inner_colour, mouth_shade

RADIUS = 0.0125  # m, a human eye
ANGLES = EyeAngles.of(RADIUS)


def ball_directions(count: int = 4000) -> torch.Tensor:
    i = torch.arange(count) + 0.5
    polar, azimuth = torch.acos(1 - 2 * i / count), math.pi * (1 + 5**0.5) * i
    return torch.stack([polar.sin() * azimuth.cos(), polar.sin() * azimuth.sin(), polar.cos()], -1)


def blue_eye(directions: torch.Tensor, axis: torch.Tensor) -> torch.Tensor:
    angle = torch.rad2deg(torch.acos((directions @ axis).clamp(-1, 1)))
    iris = torch.tensor([0.35, 0.50, 0.70]) * (0.3 + 0.7 * torch.sigmoid(angle - 10))[:, None]
    return torch.where((angle < ANGLES.iris)[:, None], iris, torch.tensor([0.85, 0.82, 0.80]))


def between_the_lids(directions: torch.Tensor) -> torch.Tensor:
    """An opening 60 degrees wide each way, 18 up and down."""
    x, y, z = directions.unbind(-1)
    return (
        (z > 0) & (torch.rad2deg(torch.atan2(x, z)).abs() < 60) & (torch.rad2deg(y.asin()).abs() < 18)
    ).float()


@pytest.mark.parametrize(("yaw", "pitch"), [(0, 0), (10, 4), (-14, -6)])
def test_the_iris_is_found_where_it_looks(yaw: float, pitch: float) -> None:
    directions = ball_directions()
    axis = axis_from_angles(torch.tensor(float(yaw)), torch.tensor(float(pitch)))
    iris = find_iris(directions, blue_eye(directions, axis), between_the_lids(directions), ANGLES)
    off = math.degrees(math.acos(min(1.0, float(iris.axis @ axis))))
    assert off < 4 and iris.contrast > 0.2


def test_the_hidden_part_of_the_iris_gets_the_seen_irises_colour() -> None:
    directions = ball_directions()
    axis = axis_from_angles(torch.tensor(8.0), torch.tensor(0.0))
    truth, share = blue_eye(directions, axis), between_the_lids(directions)
    out, _ = complete_eyeball(RADIUS * directions, truth * share[:, None], share)
    seen = share > 0
    assert torch.equal(out[seen], truth[seen])
    angle = torch.rad2deg(torch.acos((directions @ axis).clamp(-1, 1)))
    hidden_iris = ~seen & (angle > 13) & (angle < 25)
    assert hidden_iris.sum() > 20
    assert (out[hidden_iris] - truth[hidden_iris]).abs().mean() < 0.08
    hidden_white = ~seen & (angle > 36) & (angle < 60)
    assert out[hidden_white].mean() > 0.7


def test_an_unseen_eye_is_an_average_eye_looking_ahead() -> None:
    directions = F.normalize(torch.tensor([[0.0, 0.0, 1.0], [0.33, 0.0, 1.0], [1.0, 0.0, 1.0]]), dim=-1)
    out, iris = complete_eyeball(RADIUS * directions, torch.rand(3, 3), torch.zeros(3))
    pupil, coloured, white = out
    assert torch.equal(iris.axis, torch.tensor([0.0, 0.0, 1.0]))
    assert pupil.max() < 0.1 and 0.1 < coloured.mean() < 0.4 and white.min() > 0.7
    assert torch.allclose(
        out, standard_eye(torch.tensor([0.0, math.degrees(math.atan(0.33)), 45.0]), ANGLES), atol=1e-3
    )


def test_the_iris_keeps_its_size_on_a_larger_ball() -> None:
    small, large = EyeAngles.of(0.0125), EyeAngles.of(0.0157)
    assert math.sin(math.radians(small.iris)) * 0.0125 == pytest.approx(0.00585)
    assert math.sin(math.radians(large.iris)) * 0.0157 == pytest.approx(0.00585)


def test_mouths_are_darker_the_deeper_and_teeth_lightest() -> None:
    depth = torch.linspace(0, 0.06, 30)
    assert (mouth_shade(depth).diff() <= 0).all() and mouth_shade(depth)[0] == 1
    teeth, tongue, cavity = (inner_colour(p, depth, 1.0).mean(1) for p in ("teeth", "tongue", "mouth_inside"))
    assert (teeth > tongue).all() and (tongue > cavity).all()
    for part in ("tongue", "mouth_inside"):
        red, green, blue = inner_colour(part, depth, 1.0).unbind(1)
        assert (red > 1.5 * green).all() and (red > 1.5 * blue).all()
