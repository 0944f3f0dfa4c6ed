"""The tracker against a film whose motion is known: examples/driver.mp4 (examples/make_driver.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from omega_cli.avatar import codecs
from omega_cli.geometry.rotation import axis_angle_to_matrix
from omega_cli.head.assets import load_head
from omega_cli.head.params import HeadParams
from omega_cli.reenact.transfer import head_rotation, transfer_motion


@pytest.fixture(scope="module")
def film(request: pytest.FixtureRequest) -> Path:
    from conftest import weight_file

    weight_file("face_landmarker")
    return Path(request.config.rootpath) / "examples" / "driver.mp4"


@pytest.fixture(scope="module")
def truth(request: pytest.FixtureRequest) -> HeadParams:
    return codecs.load_params(Path(request.config.rootpath) / "examples" / "driver_motion.npz")


@pytest.fixture(scope="module")
def tracked(film: Path):
    from omega_cli.track.stage import track_video

    return track_video(film, load_head())


def angles_deg(params: HeadParams) -> np.ndarray:  # [T, 3] yaw, pitch, roll
    R = axis_angle_to_matrix(head_rotation(params)).numpy()
    yaw, pitch = np.arctan2(R[:, 0, 2], R[:, 2, 2]), np.arcsin(-R[:, 1, 2].clip(-1, 1))
    return np.degrees(np.stack([yaw, pitch, np.arctan2(R[:, 1, 0], R[:, 1, 1])], 1))


def shape(params: HeadParams, name: str) -> np.ndarray:
    return params.expression[:, load_head().expression_names.index(name)].numpy()


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def test_the_film_is_small_has_sound_and_says_what_it_is(film: Path, truth: HeadParams):
    import av

    assert film.stat().st_size <= 1_000_000
    with av.open(str(film)) as container:
        video, sound = container.streams.video[0], container.streams.audio[0]
        assert (video.width, float(video.average_rate), video.frames) == (512, 25.0, len(truth))
        assert abs(float(sound.duration * sound.time_base) - len(truth) / 25) < 0.1
        assert "Synthetic" in container.metadata["comment"]


def test_every_frame_is_found(tracked, truth: HeadParams):
    assert len(tracked.params) == len(truth) and tracked.fps == 25.0
    assert tracked.valid.all()


def test_head_turns(tracked, truth: HeadParams):
    """Relative to the first second: where the head is at rest in the script."""
    found, wanted = (a - a[:12].mean(0) for a in (angles_deg(tracked.params), angles_deg(truth)))
    error = np.abs(found - wanted).mean(0)
    assert error[0] < 2.0, f"yaw off by {error[0]:.2f}° on average"
    assert error[1] < 2.5 and error[2] < 1.5, error
    assert correlation(found[:, 0], wanted[:, 0]) > 0.99


def test_mouth_and_lids(tracked, truth: HeadParams):
    assert correlation(shape(tracked.params, "jawOpen"), shape(truth, "jawOpen")) > 0.8
    for side in ("Left", "Right"):
        name = f"eyeBlink{side}"
        assert correlation(shape(tracked.params, name), shape(truth, name)) > 0.8
        closed = shape(truth, name) > 0.95
        assert shape(tracked.params, name)[closed].mean() > 0.5
    assert correlation(shape(tracked.params, "mouthSmileLeft"), shape(truth, "mouthSmileLeft")) > 0.6


def test_no_popping_after_transfer(tracked):
    """Between neighbouring frames nothing moves faster than the script's own blink."""
    head = load_head()
    out = transfer_motion(tracked.params, tracked.neutral, head.zeros(), head.expression_names)
    lids = torch.tensor(["Blink" in n or "Squint" in n or "Wide" in n for n in head.expression_names])
    assert torch.diff(out.expression[:, ~lids], dim=0).abs().max() < 0.35  # the script's fastest: 0.31
    turn = torch.diff(torch.from_numpy(angles_deg(out)), dim=0).abs()
    assert turn.max() < 6.0  # degrees a frame; the script's fastest turn makes 2.8
