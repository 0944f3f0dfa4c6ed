"""Films and contact sheets, read back with an independent reader."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from omega_cli.avatar import codecs
from omega_cli.errors import OmegaError


def moving_square(count: int, height: int = 64, width: int = 96):
    for i in range(count):
        frame = np.full((height, width, 3), 40, np.uint8)
        frame[20:40, 2 * i : 2 * i + 20] = (200, 90, 30)
        yield frame


def with_sound(path: Path, seconds: float) -> Path:
    """A film with a 440 Hz tone, made by PyAV itself."""
    with av.open(str(path), "w") as out:
        video, sound = out.add_stream("libx264", rate=25), out.add_stream("aac", rate=44100)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        for frame in moving_square(int(seconds * 25), 64, 64):
            out.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(video.encode(None))
        tone = np.sin(np.arange(int(seconds * 44100)) * 440 * 2 * np.pi / 44100).astype(np.float32)
        for start in range(0, len(tone), 1024):
            part = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="fltp", layout="mono")
            part.rate, part.pts = 44100, start
            out.mux(sound.encode(part))
        out.mux(sound.encode(None))
    return path


def test_frames_rate_and_colours_survive(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    assert codecs.write_video(path, moving_square(12), 30000 / 1001, metadata={"omega": "synthetic"}) == 12
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        assert (stream.codec.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == Fraction(30000, 1001)
        assert film.metadata["omega"] == "synthetic"
        frames = [f.to_ndarray(format="rgb24") for f in film.decode(stream)]
    assert len(frames) == 12
    for i, frame in enumerate(frames):
        assert np.abs(frame[30, 2 * i + 10].astype(int) - (200, 90, 30)).max() < 12
        assert np.abs(frame[5, 5].astype(int) - 40).max() < 6


def test_odd_sizes_are_padded(tmp_path: Path) -> None:
    codecs.write_video(tmp_path / "odd.mp4", moving_square(3, 65, 97), 25)
    with av.open(str(tmp_path / "odd.mp4")) as film:
        assert (film.streams.video[0].height, film.streams.video[0].width) == (66, 98)


def test_sound_is_carried_and_cut(tmp_path: Path) -> None:
    driver = with_sound(tmp_path / "driver.mp4", 3)
    codecs.write_video(tmp_path / "out.mp4", moving_square(25), 25, audio_from=driver)
    with av.open(str(tmp_path / "out.mp4")) as film:
        sound = film.streams.audio[0]
        parts = [f.to_ndarray() for f in film.decode(sound)]
    seconds = sum(p.shape[1] for p in parts) / sound.rate
    assert seconds == pytest.approx(1, abs=0.1)
    spectrum = np.abs(np.fft.rfft(np.concatenate(parts, 1)[0]))
    assert np.argmax(spectrum) / seconds == pytest.approx(440, abs=5)


def test_a_silent_driver_gives_a_silent_film(tmp_path: Path) -> None:
    codecs.write_video(tmp_path / "silent.mp4", moving_square(5), 25)
    codecs.write_video(tmp_path / "out.mp4", moving_square(5), 25, audio_from=tmp_path / "silent.mp4")
    with av.open(str(tmp_path / "out.mp4")) as film:
        assert not film.streams.audio and film.streams.video[0].frames == 5


def test_a_failing_renderer_leaves_no_film(tmp_path: Path) -> None:
    def breaks():
        yield from moving_square(3)
        raise RuntimeError("renderer")

    with pytest.raises(RuntimeError, match="renderer"):
        codecs.write_video(tmp_path / "f.mp4", breaks(), 25)
    with pytest.raises(OmegaError, match="not one frame"):
        codecs.write_video(tmp_path / "f.mp4", iter(()), 25)
    assert list(tmp_path.iterdir()) == []


def test_contact_sheet_puts_pictures_where_they_belong() -> None:
    pictures = [torch.full((3, 40, 30), i / 10) for i in range(5)]
    sheet = codecs.contact_sheet(pictures, 3)
    assert sheet.shape == (3, 80, 90)
    assert torch.equal(sheet[:, 40:, 30:60], pictures[4]) and (sheet[:, 40:, 60:] == 1).all()
    labelled = codecs.contact_sheet(pictures, 3, labels=["front", "45", "90", "180", "270"])
    top = labelled.shape[1] // 2 - 40
    assert torch.allclose(labelled[:, top : top + 40, :30], pictures[0], atol=1 / 255)
    assert labelled[:, :top, :30].min() < 0.3, "the label is drawn in ink"
    clear = torch.cat([torch.zeros(3, 4, 4), torch.zeros(1, 4, 4)])
    assert (codecs.contact_sheet([clear], 1, background=0.5) == 0.5).all()
