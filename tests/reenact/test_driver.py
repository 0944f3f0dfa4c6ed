"""The driver's pictures."""

from __future__ import annotations

import numpy as np

from omega_cli.reenact import driver


def test_letterbox_keeps_the_whole_picture():
    tall = np.full((200, 100, 3), 200, np.uint8)
    boxed = driver.letterbox(tall, 64)
    assert boxed.shape == (64, 64, 3)
    assert (boxed[:, 16:48] == 200).all() and (boxed[:, :16] == 0).all() and (boxed[:, 48:] == 0).all()
    square = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
    assert (driver.letterbox(square, 64) == square).all()
