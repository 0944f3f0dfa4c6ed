"""Film helpers: order, errors and early closing across the thread; byte and alpha conversions."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from omega_cli.render import film


def test_ahead_keeps_order_and_ends():
    assert list(film.ahead(iter(range(100)), depth=3)) == list(range(100))
    assert list(film.ahead([])) == []


def test_ahead_raises_the_makers_error_in_its_place():
    def items():
        yield 1
        raise RuntimeError("third")

    seen = []
    with pytest.raises(RuntimeError, match="third"):
        for item in film.ahead(items()):
            seen.append(item)
    assert seen == [1]


def test_ahead_works_side_by_side():
    """Two workers of 20 ms an item take about as long as one."""

    def items():
        for i in range(15):
            time.sleep(0.02)
            yield i

    started = time.perf_counter()
    for _ in film.ahead(items()):
        time.sleep(0.02)
    assert time.perf_counter() - started < 15 * 0.04 * 0.85


def test_closing_early_stops_the_maker():
    made = []

    def items():
        for i in range(10_000):
            made.append(i)
            yield i

    frames = film.ahead(items(), depth=2)
    assert next(frames) == 0
    frames.close()
    assert len(made) < 10
    assert not any(thread.name == "film-maker" for thread in threading.enumerate())


def test_to_bytes_rounds_and_clips():
    image = torch.tensor([-0.5, 0.0, 0.5, 1.0, 2.0, 100.4 / 255]).view(1, 1, 6)
    assert film.to_bytes(image).ravel().tolist() == [0, 0, 128, 255, 255, 100]


def test_to_rgba_undoes_the_premultiplication():
    color, alpha = torch.rand(3, 4, 4), torch.rand(4, 4) * 0.9 + 0.1
    rgba = film.to_rgba(color * alpha, alpha)
    torch.testing.assert_close(rgba[:3], color, atol=1e-5, rtol=0)
    torch.testing.assert_close(rgba[3], alpha)


def test_bytes_and_back():
    image = torch.rand(3, 5, 7)
    (pixels,) = film.pixels_of([image])
    assert pixels.shape == (5, 7, 3) and (pixels == film.to_bytes(image)).all()
    assert (film.to_bytes(film.from_bytes(pixels)) == pixels).all()
