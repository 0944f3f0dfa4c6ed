"""Headgear continued around the head: striped cylinders seen from the front alone."""

import math

import pytest
import torch
from torch import Tensor

from omega_cli.head.assets import load_head
from omega_cli.mv_diffuse.headgear import continued_around, likeliest_tilt
from omega_cli.mv_diffuse.texture import HAT, Evidence, Surface, hat_field, mirror_of

AXIS = -0.01


def cylinder(tilt: float) -> tuple[Tensor, Tensor, Tensor]:
    """Points [N, 3] on a tilted cylinder, their colours (a red band of 3 cm on blue), and their angle."""
    generator = torch.Generator().manual_seed(0)
    angle = 2 * math.pi * torch.rand(40000, generator=generator)
    height = 0.1 * torch.rand(40000, generator=generator) + 0.05
    x, depth = 0.09 * angle.sin(), 0.09 * angle.cos()
    y = height * math.cos(tilt) - depth * math.sin(tilt)
    z = depth * math.cos(tilt) + height * math.sin(tilt) + AXIS
    red = ((height > 0.08) & (height < 0.11)).float()
    return torch.stack([x, y, z], 1), torch.stack([red, torch.zeros_like(red), 1 - red], 1), angle


@pytest.mark.parametrize("degrees", [0, 10, -20])
def test_a_band_runs_on_behind_at_its_own_tilt(degrees: int) -> None:
    points, rgb, angle = cylinder(math.radians(degrees))
    front = (angle.cos() > 0.3).float()
    assert math.degrees(likeliest_tilt(points, rgb, front, AXIS)) == pytest.approx(degrees, abs=5.1)
    behind = angle.cos() < -0.5
    found = continued_around(points, rgb, front, points[behind], AXIS)
    wrong = (found - rgb[behind]).abs().amax(1) > 0.5
    assert wrong.float().mean() < 0.1
    # what was there before, one colour for all, is wrong for every point of the rarer colour
    assert (rgb[behind, 0] > 0.5).float().mean() > 0.25


def test_one_colour_stays_that_colour_and_upright() -> None:
    points, _, angle = cylinder(0.0)
    rgb = torch.tensor([0.2, 0.5, 0.8]).expand(len(points), 3)
    seen = (angle.cos() > 0.3).float()
    assert likeliest_tilt(points, rgb, seen, AXIS) == 0.0
    assert torch.allclose(continued_around(points, rgb, seen, points, AXIS), rgb, atol=1e-5)


def test_what_lies_above_and_below_all_that_is_seen_takes_the_nearest_rows() -> None:
    points, rgb, angle = cylinder(0.0)
    seen = ((angle.cos() > 0.3) & (points[:, 1] > 0.09) & (points[:, 1] < 0.13)).float()
    found = continued_around(points, rgb, seen, points, AXIS)
    assert torch.isfinite(found).all()
    low, high = points[:, 1] < 0.06, points[:, 1] > 0.145
    assert found[low, 0].min() > 0.7 and found[high, 2].min() > 0.7


def test_the_sides_take_what_is_seen_on_their_own_side() -> None:
    points, _, angle = cylinder(0.0)
    right = (points[:, 0] > 0).float()
    rgb = torch.stack([right, 1 - right, torch.zeros_like(right)], 1)
    found = continued_around(points, rgb, (angle.cos() > 0.3).float(), points, AXIS)
    side = (angle.cos().abs() < 0.2) & (points[:, 0] > 0.05)
    assert found[side, 0].min() > 0.9


@pytest.mark.parametrize(("lowest", "nape", "ears"), [(0.08, False, False), (-1.0, True, True)])
def test_a_cap_ends_above_the_nape_and_a_headscarf_covers_it(lowest: float, nape: bool, ears: bool) -> None:
    model = load_head()
    surface = Surface.of(model, model.v_template, mirror_of(model))
    front = surface.normals[:, 2] > 0.2
    worn = (model.regions["scalp"] | model.regions["neck"]) & (model.v_template[:, 1] > lowest)
    label = torch.where(worn, HAT, 1)
    field = hat_field(surface, Evidence(torch.zeros(len(label), 3), front.float(), label))
    behind = surface.normals[:, 2] < -0.5
    top = model.regions["scalp"] & behind & (model.v_template[:, 1] > 0.1)
    assert float(field[top].mean()) > 0.9
    assert (float(field[model.regions["neck"] & behind].mean()) > 0.5) == nape
    assert (float(field[model.regions["ears"] & ~front].mean()) > 0.5) == ears
    assert float(field[model.regions["face"] & front].max()) < 0.5
