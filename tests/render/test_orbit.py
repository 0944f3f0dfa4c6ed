"""Cameras about the head: everything in frame, the right side seen, one full even turn."""

from __future__ import annotations

import pytest
import torch

from omega_cli.render import orbit


def cloud() -> torch.Tensor:
    g = torch.Generator().manual_seed(3)
    return torch.randn(500, 3, generator=g).clamp(-2, 2) * torch.tensor([0.04, 0.07, 0.05]) + torch.tensor(
        [0.01, 0.2, -0.03]
    )


def test_everything_in_frame_and_tight():
    points = cloud()
    framing = orbit.frame_head(points, fill=0.92)
    worst = 0.0
    for azimuth in orbit.SHEET_AZIMUTHS:
        pixels, depth = framing.camera(azimuth, 0.0, 200).project(points)
        assert (depth > 0.5).all()
        worst = max(worst, float((pixels - 100).abs().max() / 100))
    assert worst == pytest.approx(0.92, abs=1e-4)


def test_turntable_starts_at_the_face_and_turns_once():
    cameras = orbit.turntable(orbit.frame_head(cloud()), 36, 128)
    assert len(cameras) == 36 and cameras[0].forward[2] < -0.98
    sides = torch.stack([c.position for c in cameras]) - orbit.frame_head(cloud()).centre
    angle = torch.atan2(sides[:, 0], sides[:, 2])
    step = torch.diff(torch.cat([angle, angle[:1]]))
    step = torch.remainder(step, 2 * torch.pi)
    torch.testing.assert_close(step, torch.full_like(step, 2 * torch.pi / 36), atol=1e-4, rtol=0)
    assert cameras[9].position[0] > 1.0  # a quarter turn sees the subject's left (+x)
    torch.testing.assert_close(sides.norm(dim=-1), torch.full((36,), orbit.DISTANCE))
    assert (sides[:, 1] / orbit.DISTANCE).min() > 0  # always from a little above


def test_directions_pair_up():
    framing = orbit.frame_head(cloud())
    cameras = orbit.directions(framing, [0, 90], [10, -10], 64)
    assert [c.id for c in cameras] == ["0_10", "90_-10"]
    assert cameras[0].position[1] > framing.centre[1] > cameras[1].position[1]
    assert len(orbit.directions(framing, [0, 90, 180], [5], 64)) == 3
    with pytest.raises(ValueError):
        orbit.directions(framing, [0, 90, 180], [5, 6], 64)


def test_portrait_lets_the_bust_run_out_of_the_picture():
    points = cloud()
    framing = orbit.frame_portrait(points, top=0.9, side=0.8, hem=0.035)
    pixels = (framing.camera(0.0, 0.0, 200).project(points)[0] - 100) / 100
    low = points[:, 1] < points[:, 1].min() + 0.01
    assert (pixels[low, 1] > 1).all()
    head = points[:, 1] > points[:, 1].min() + 0.5 * (points[:, 1].max() - points[:, 1].min())
    assert pixels[head].abs().max() < 1 and pixels[:, 1].min() < -0.7
