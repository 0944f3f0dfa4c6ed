"""Motion transfer: neutral to neutral, extremes to extremes, rotations composed exactly, no kinks."""

from __future__ import annotations

import math

import pytest
import torch

from omega_cli.geometry.rotation import axis_angle_to_matrix
from omega_cli.head.params import HeadParams
from omega_cli.reenact import transfer

NAMES = ("eyeBlinkLeft", "jawOpen", "browInnerUp", "mouthSmileLeft")


def moving(T: int = 9, seed: int = 0) -> HeadParams:
    g = torch.Generator().manual_seed(seed)
    params = HeadParams.zeros(4, len(NAMES), T)
    draw = {name: 0.2 * torch.randn(T, 3, generator=g) for name in ("global_orient", "neck_pose")}
    draw |= {name: 0.1 * torch.randn(T, 3, generator=g) for name in ("jaw_pose", "leye_pose", "reye_pose")}
    return params.replace(
        expression=torch.rand(T, len(NAMES), generator=g),
        transl=0.02 * torch.randn(T, 3, generator=g),
        **draw,
    )


def avatar(seed: int = 7) -> HeadParams:
    return moving(1, seed).replace(betas=torch.arange(4.0), scale=torch.tensor(1.1))


def test_drivers_neutral_gives_avatars_rest():
    driver = moving()
    neutral = driver.frame(3)
    out = transfer.transfer_motion(driver, neutral, avatar(), NAMES)
    rest = avatar()
    lips = NAMES.index("jawOpen")
    assert out.expression[3][[i for i in range(len(NAMES)) if i != lips]].abs().max() == 0
    assert out.jaw_pose[3].abs().max() < 1e-5  # a closed jaw, whatever the photo did
    torch.testing.assert_close(out.global_orient[3], rest.global_orient[0], atol=2e-5, rtol=0)
    torch.testing.assert_close(out.neck_pose[3], rest.neck_pose[0], atol=2e-5, rtol=0)
    torch.testing.assert_close(out.transl[3], rest.transl[0])
    assert torch.equal(out.betas, rest.betas) and out.scale == rest.scale


def test_keep_expression_keeps_its_share_at_rest():
    driver = moving().frame(0)
    rest = avatar().replace(expression=torch.tensor([[0.1, 0.4, 0.2, 0.8]]))
    out = transfer.transfer_motion(driver, driver.frame(0), rest, NAMES, keep_expression=0.5)
    torch.testing.assert_close(out.expression[0], 0.5 * rest.expression[0])


def test_a_talkers_parted_lips_are_no_closed_mouth():
    """Rests at jawOpen 0.3 on average, closes it now and then: only closed is closed for the avatar."""
    driver = HeadParams.zeros(4, len(NAMES), 100)
    jaw = NAMES.index("jawOpen")
    expression = torch.full((100, len(NAMES)), 0.3)
    expression[::10, jaw] = 0.02
    expression[5] = 0.9
    driver = driver.replace(expression=expression)
    neutral = driver.frame(1)
    out = transfer.transfer_motion(driver, neutral, HeadParams.zeros(4, len(NAMES)), NAMES).expression
    assert out[10, jaw] == pytest.approx(0.0, abs=1e-6) and out[1, jaw] > 0.28 and out[5, jaw] > 0.85
    others = [i for i in range(len(NAMES)) if i != jaw]
    assert out[1, others].abs().max() == 0  # everything else is counted from the neutral


def test_a_full_blink_stays_full_from_a_raised_neutral():
    driver = torch.tensor([[0.2, 0.0, 0.3, 0.0], [1.0, 1.0, 1.0, 1.0], [0.6, 0.5, 0.65, 0.5]])
    relative = transfer.relative_expression(driver, driver[0], NAMES)
    assert relative[0].abs().max() == 0
    torch.testing.assert_close(relative[1], torch.ones(4))
    torch.testing.assert_close(relative[2], torch.full((4,), 0.5))


def test_absolute_takes_the_drivers_skull_orientation():
    driver = moving()
    still = avatar().replace(global_orient=torch.zeros(1, 3), neck_pose=torch.zeros(1, 3))
    out = transfer.transfer_motion(driver, driver.frame(2), still, NAMES, relative=False, max_turn_deg=90)
    wanted = axis_angle_to_matrix(driver.global_orient) @ axis_angle_to_matrix(driver.neck_pose)
    got = axis_angle_to_matrix(out.global_orient) @ axis_angle_to_matrix(out.neck_pose)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(out.expression, driver.expression, atol=1e-6, rtol=0)


def test_relative_motion_does_not_see_how_the_driver_sat():
    """Turning the driver's whole recording (a camera set up elsewhere) changes nothing."""
    driver, placed = moving(), torch.tensor([0.1, 0.5, -0.2])
    turned = driver.replace(global_orient=transfer.compose(placed.expand(9, 3), driver.global_orient))
    one = transfer.transfer_motion(driver, driver.frame(0), avatar(), NAMES)
    two = transfer.transfer_motion(turned, turned.frame(0), avatar(), NAMES)
    torch.testing.assert_close(one.global_orient, two.global_orient, atol=1e-5, rtol=0)
    torch.testing.assert_close(one.neck_pose, two.neck_pose, atol=1e-5, rtol=0)


def test_bust_takes_its_share_and_the_product_is_exact():
    base, neck = torch.tensor([0.1, 0.2, 0.0]), torch.tensor([0.05, -0.1, 0.02])
    turn = torch.tensor([[0.0, 0.4, 0.0], [0.2, 0.1, -0.3]])
    bust, skull = transfer.split_head_rotation(base, neck, turn)
    to = axis_angle_to_matrix
    torch.testing.assert_close(to(bust) @ to(skull), to(base) @ to(neck) @ to(turn), atol=1e-6, rtol=0)
    follow = transfer.relative_rotation(bust, base)
    torch.testing.assert_close(follow, transfer.BUST_SHARE * turn, atol=1e-5, rtol=0)


@pytest.mark.parametrize("limit", [0.5, 2.0])
def test_soft_limit_is_exact_below_bounded_above_and_smooth(limit: float):
    x = torch.linspace(-10, 10, 4001, dtype=torch.float64)
    y = transfer.soft_limit(x, 0.6 * limit, limit)
    inside = x.abs() <= 0.6 * limit
    assert torch.equal(y[inside], x[inside])
    assert y.abs().max() <= limit
    slope = torch.diff(y) / torch.diff(x)
    assert slope.min() >= 0 and slope.max() <= 1 + 1e-9
    assert torch.diff(slope).abs().max() < 0.03 / limit  # no kink: steps of 0.005 in x
    torch.testing.assert_close(y, -y.flip(0))


def test_expression_stays_plausible():
    wild = torch.linspace(-3, 3, 601)[:, None].expand(-1, len(NAMES))
    out = transfer.plausible_expression(wild, NAMES)
    assert out.max() <= 1 + transfer.SOFT_TOP and out.min() >= -transfer.SOFT_BOTTOM
    assert out[:, NAMES.index("jawOpen")].min() == 0  # a jaw does not close past closed
    middle = (wild >= 0) & (wild <= 1)
    assert torch.equal(out[middle], wild[middle])
    assert torch.diff(out, dim=0).min() >= 0
    unnamed = transfer.plausible_expression(wild, None)
    assert unnamed.abs().max() <= transfer.LINEAR_LIMIT


def test_head_turn_and_shift_are_bounded():
    driver = HeadParams.zeros(4, 4, 3).replace(
        global_orient=torch.tensor([[0.0, 0, 0], [0.0, 0.3, 0.0], [0.0, 1.5, 0.0]]),
        transl=torch.tensor([[0.0, 0, 0], [0.01, 0, 0], [0.0, 5.0, 0.0]]),
    )
    rest = HeadParams.zeros(4, 4)
    out = transfer.transfer_motion(driver, driver.frame(0), rest, NAMES, max_turn_deg=40, max_shift=0.03)
    turn = transfer.head_rotation(out).norm(dim=-1)
    assert math.isclose(turn[1], 0.3, abs_tol=1e-5)
    assert turn[2] <= math.radians(40) + 1e-5
    assert math.isclose(out.transl[1, 0], transfer.TRANSL_SHARE * 0.01, abs_tol=1e-7)
    assert out.transl[2].norm() <= 0.03
