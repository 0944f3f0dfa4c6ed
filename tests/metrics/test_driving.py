"""AED, APD and AKD on tracked parameters: known differences, no gimbal or wrap surprises."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from omega_cli.head.params import HeadParams
from omega_cli.metrics.driving import aed, akd, apd, head_angles


def heads(T: int = 5, E: int = 52, seed: int = 0) -> HeadParams:
    g = torch.Generator().manual_seed(seed)
    still = HeadParams.zeros(7, E, T)
    return still.replace(
        expression=torch.rand(T, E, generator=g),
        global_orient=0.6 * torch.randn(T, 3, generator=g),
        neck_pose=0.2 * torch.randn(T, 3, generator=g),
    )


def test_the_same_performance_is_at_distance_zero() -> None:
    a = heads()
    points = torch.rand(5, 68, 2)
    assert aed(a, a).tolist() == apd(a, a).tolist() == akd(points, points, 512).tolist() == [0] * 5


def test_aed_is_the_mean_difference() -> None:
    """One of 52 coefficients off by 0.52 is 0.01; identity, pose and place do not count."""
    a = heads()
    changed = a.expression.clone()
    changed[2, 17] += 0.52
    b = heads(seed=1).replace(expression=changed, betas=torch.ones(7), transl=torch.ones(5, 3))
    assert aed(a, b).tolist() == pytest.approx([0, 0, 0.01, 0, 0], abs=1e-7)


def test_angles_are_scipys() -> None:
    a = heads(T=50)
    root, neck = (Rotation.from_rotvec(v.double().numpy()) for v in (a.global_orient, a.neck_pose))
    roll, yaw, pitch = (root * neck).as_euler("ZYX").T
    for mine, theirs in zip(head_angles(a).T, (pitch, yaw, roll)):
        assert mine.numpy() == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_apd_of_one_turn(axis: int) -> None:
    """A turn by θ about one axis is θ / 3; it makes no difference whether root or neck turns."""
    still = HeadParams.zeros(7, 52, 1)
    turn = torch.zeros(1, 3)
    turn[0, axis] = 0.3
    root, neck = still.replace(global_orient=turn), still.replace(neck_pose=turn)
    assert apd(still, root).item() == pytest.approx(0.1, abs=1e-6)
    assert apd(still, neck).item() == pytest.approx(0.1, abs=1e-6)
    assert apd(root, neck).item() == pytest.approx(0, abs=1e-6)


def test_apd_goes_the_short_way_round() -> None:
    """Roll by +179° and by -179° are 2° apart."""
    still = HeadParams.zeros(7, 52, 1)
    a, b = (still.replace(global_orient=torch.tensor([[0, 0, math.radians(x)]])) for x in (179.0, -179.0))
    assert apd(a, b).item() == pytest.approx(math.radians(2) / 3, abs=1e-5)


def test_akd_is_in_pixels_of_512() -> None:
    a = 200 * torch.rand(4, 68, 2)
    assert akd(a, a + torch.tensor([3.0, 4.0]), 512) == pytest.approx(5.0, abs=1e-4)
    assert akd(a, a + torch.tensor([3.0, 4.0]), 256) == pytest.approx(10.0, abs=1e-4)
    one = a.clone()
    one[:, 30, 0] += 68
    assert akd(a, one, 512) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("metric", [aed, apd])
def test_more_is_farther_frames_stand_alone_and_order_does_not_matter(metric) -> None:
    a, b = heads(), heads(seed=1)
    alone = torch.cat([metric(a.frame(t), b.frame(t)) for t in range(5)])
    assert torch.allclose(metric(a, b), alone) and torch.allclose(metric(b, a), alone)
    steps = [HeadParams.zeros(7, 52).replace(expression=torch.full((1, 52), x),
                                             global_orient=torch.tensor([[x, 0, 0]]))
             for x in (0.0, 0.1, 0.2, 0.4)]  # fmt: skip
    values = [metric(steps[0], step).item() for step in steps]
    assert values == sorted(values) and values[-1] > values[0]


def test_a_lost_frame_is_nan_alone() -> None:
    a, b = heads(), heads(seed=1)
    lost = a.replace(
        expression=a.expression.index_fill(0, torch.tensor([1]), math.nan),
        global_orient=a.global_orient.index_fill(0, torch.tensor([1]), math.nan),
    )
    points = torch.rand(5, 68, 2)
    gone = points.index_fill(0, torch.tensor([1]), math.nan)
    for values in (aed(lost, b), apd(lost, b), akd(points, gone, 512)):
        assert values.isnan().tolist() == [False, True, False, False, False]


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match="as many frames, got 5 and 4"):
        aed(heads(5), heads(4))
    with pytest.raises(ValueError, match="one head model, got 52 and 100"):
        aed(heads(), heads(E=100))
    with pytest.raises(ValueError, match=r"\[T, L, 2\]"):
        akd(torch.zeros(4, 68, 3), torch.zeros(4, 68, 3), 512)
    with pytest.raises(ValueError, match="size must be positive"):
        akd(torch.zeros(4, 68, 2), torch.zeros(4, 68, 2), 0)
