"""The driver's neutral and pictures."""

from __future__ import annotations

import numpy as np
import torch

from omega_cli.head.params import HeadParams
from omega_cli.reenact import driver


def test_neutral_is_the_resting_face_of_a_talker():
    """A person who rests at 0.1, talks in half of the frames and blinks in some, head turned 0.2 rad."""
    generator = torch.Generator().manual_seed(0)
    T = 60
    rest = torch.tensor([0.1, 0.02, 0.0])
    expression = rest.repeat(T, 1)
    expression[20:50] += torch.rand(30, 3, generator=generator)
    turn = torch.zeros(T, 3)
    turn[:, 1] = 0.2 + 0.01 * torch.randn(T, generator=generator)
    params = HeadParams.zeros(2, 3, T).replace(expression=expression, global_orient=turn)
    neutral = driver.estimate_neutral(params, torch.ones(T, dtype=torch.bool))
    torch.testing.assert_close(neutral.expression[0], rest)
    assert abs(float(neutral.global_orient[0, 1]) - 0.2) < 0.005
    assert len(neutral) == 1


def test_neutral_reads_valid_frames_only():
    params = HeadParams.zeros(2, 3, 4).replace(
        expression=torch.tensor([[0.0] * 3, [0.3] * 3, [0.3] * 3, [0.0] * 3])
    )
    valid = torch.tensor([False, True, True, False])
    torch.testing.assert_close(driver.estimate_neutral(params, valid).expression, torch.full((1, 3), 0.3))


def test_letterbox_keeps_the_whole_picture():
    tall = np.full((200, 100, 3), 200, np.uint8)
    boxed = driver.letterbox(tall, 64)
    assert boxed.shape == (64, 64, 3)
    assert (boxed[:, 16:48] == 200).all() and (boxed[:, :16] == 0).all() and (boxed[:, 48:] == 0).all()
    square = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
    assert (driver.letterbox(square, 64) == square).all()
