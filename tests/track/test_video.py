"""Films: what is recovered, and every way in which a film can be wrong."""

import io

import numpy as np
import pytest
import torch
from conftest import weight_file

from omega_cli.console import NullReport
from omega_cli.errors import OmegaError
from omega_cli.head.assets import load_head
from omega_cli.head.params import HeadParams
from omega_cli.track import video
from omega_cli.track.observe import DISTANCE, FOCAL, SIZE

av = pytest.importorskip("av")


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def task() -> bytes:
    return weight_file("face_landmarker").read_bytes()


@pytest.fixture(scope="module")
def moving(astronaut) -> list[np.ndarray]:
    """24 pictures [240, 320, 3] of a portrait that slides, tilts and comes nearer; what happens is known."""
    import cv2

    rgb = cv2.imread(str(astronaut))[:300, 90:390, ::-1]
    return [cv2.warpAffine(rgb, warp(i), (320, 240), borderMode=cv2.BORDER_REPLICATE) for i in range(24)]


def warp(i: int) -> np.ndarray:
    """Portrait px to px of picture i [2, 3]: a roll of 12°, a slide, 0.8 to 0.9 of the size."""
    import cv2

    matrix = cv2.getRotationMatrix2D((150, 125), 12 * np.sin(i / 24 * 2 * np.pi), 0.8 + 0.1 * i / 24)
    matrix[:, 2] += (10 + i, -5)
    return matrix


def warp_size(i: int) -> float:
    return float(np.linalg.det(warp(i)[:, :2]) ** 0.5)


def encode(frames, fps=25, times=None, codec="libx264", kind="mp4") -> bytes:
    """An in-memory film; `times` in 1/1000 s for an uneven one."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        if times is not None:
            from fractions import Fraction

            stream.codec_context.time_base = Fraction(1, 1000)
        for i, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            if times is not None:
                frame.pts = times[i]
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return buffer.getvalue()


def track(data: bytes, head, task, **options) -> video.TrackedVideo:
    return video.track_film(io.BytesIO(data), head, task, name="film.mp4", report=NullReport(), **options)


@pytest.fixture(scope="module")
def tracked(moving, head, task) -> video.TrackedVideo:
    return track(encode(moving), head, task)


def test_roll_slide_and_approach_are_recovered(tracked, head):
    from scipy.spatial.transform import Rotation

    params = tracked.params
    assert len(params) == 24 and tracked.fps == 25.0 and tracked.valid.all() and not tracked.warnings
    assert np.allclose(tracked.times, np.arange(24) / 25)
    roll = Rotation.from_rotvec(params.global_orient.numpy()).as_euler("yxz", degrees=True)[:, 2]
    truth = 12 * np.sin(np.arange(24) / 24 * 2 * np.pi)
    assert np.abs((roll - roll.mean()) - truth).max() < 3
    eyes = head(params).joints[:, 3:].mean(1).numpy()  # [T, 3] m, between the eyes
    depth = DISTANCE - eyes[:, 2]
    assert depth[-3:].mean() / depth[:3].mean() == pytest.approx(warp_size(1) / warp_size(22), abs=0.03)
    pixels = eyes[:, :2] * (FOCAL, -FOCAL) / depth[:, None] + SIZE / 2
    pixels = (pixels - tracked.crop["shift"]) / tracked.crop["scale"]
    in_portrait = [np.linalg.solve(warp(i)[:, :2], p - warp(i)[:, 2]) for i, p in enumerate(pixels)]
    assert np.std(in_portrait, axis=0).max() < 1.0  # px: the same place of the portrait all along
    assert tracked.metrics["reprojection_percent"] < 1.2


def test_a_still_face_has_a_still_expression(tracked):
    """The picture is a photo in motion: the expression must not follow the pose."""
    assert tracked.params.expression.std(0).max() < 0.12
    assert torch.equal(tracked.params.expression.clamp(0, 1), tracked.params.expression)
    difference = (tracked.neutral.expression - tracked.params.expression.median(0).values).abs()
    assert difference.max() < 0.12
    assert tracked.points478.shape == (24, 478, 2) and tracked.size == (320, 240)


def test_faces_in_some_frames_are_filled_in_and_reported(moving, head, task, tracked):
    blank = np.full_like(moving[0], 90)
    frames = [blank if i in (0, 9, 10, 11) else frame for i, frame in enumerate(moving)]
    found = track(encode(frames), head, task, smooth_strength=0.0)
    assert np.flatnonzero(~found.valid).tolist() == [0, 9, 10, 11]
    assert len(found.params) == 24 and "4 of 24 frames" in found.warnings[0]
    bridge = found.params.transl[8:13].numpy()
    assert np.abs(np.diff(bridge, 2, axis=0)).max() < 1e-5  # a straight line
    assert np.isfinite(found.points478).all()


def test_an_uneven_film_is_put_on_an_even_grid(moving, head, task, tracked):
    """Every third picture shown twice as long: the motion keeps its clock."""
    steps = np.where(np.arange(24) % 3 == 0, 80, 40)
    times = np.concatenate([[0], np.cumsum(steps)[:-1]])
    found = track(encode(moving, times=times.tolist()), head, task)
    assert found.fps == pytest.approx(25, rel=0.02)
    assert np.allclose(np.diff(found.times), 1 / found.fps)
    assert found.times[-1] == pytest.approx(times[-1] / 1000, abs=0.05)
    where = np.round(times / 1000 * found.fps).astype(int)
    x = found.params.transl[where, 0].numpy()
    assert np.abs(x - tracked.params.transl[:, 0].numpy()).max() < 0.006


def test_a_broken_tail_uses_what_came_before(moving, head, task):
    data = encode(moving * 4, kind="matroska")
    found = track(data[: int(len(data) * 0.6)], head, task)
    assert 20 < len(found.params) < 96


def test_a_gif_is_a_film(moving, head, task):
    from PIL import Image

    buffer = io.BytesIO()
    first, *others = [Image.fromarray(frame) for frame in moving[:12]]
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=80)
    found = track(buffer.getvalue(), head, task)
    assert len(found.params) == 12 and found.fps == pytest.approx(12.5)


def test_a_limit_on_frames(moving, head, task):
    assert len(track(encode(moving), head, task, max_frames=5).params) == 5


def test_a_small_face_is_followed_in_its_own_window(moving, head, task):
    import cv2

    canvas = np.full((720, 1280, 3), 110, np.uint8)
    frames = []
    for rgb in moving[:8]:
        frame = canvas.copy()
        frame[400:600, 900:1167] = cv2.resize(rgb, (267, 200), interpolation=cv2.INTER_AREA)
        frames.append(frame)
    found = track(encode(frames), head, task)
    assert found.valid.all() and (found.points478[..., 0] > 900).all()


def test_films_that_cannot_be_used(moving, head, task):
    blank = [np.full((240, 320, 3), 90, np.uint8)] * 6
    with pytest.raises(OmegaError, match="No face was found in any of the 6 frames"):
        track(encode(blank), head, task)
    with pytest.raises(OmegaError, match="in only 3 of 10 frames"):
        track(encode(moving[:3] + blank + blank[:1]), head, task)
    with pytest.raises(OmegaError, match="not a film"):
        track(b"this is no film" * 100, head, task)
    whole = encode(moving)
    with pytest.raises(OmegaError, match=r"not a film|0 frames"):
        track(whole[:300], head, task)


def test_a_film_without_pictures(head, task):
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    with pytest.raises(OmegaError, match="no pictures"):
        track(buffer.getvalue(), head, task)


def test_neutral_is_the_resting_face():
    """A talker who blinks: rest is closed lips and open eyes; pose is the usual one."""
    T = 100
    params = HeadParams.zeros(4, 2, T)
    expression = torch.zeros(T, 2)
    expression[:, 0] = 0.1 + 0.8 * (torch.arange(T) % 10 == 0)  # blinks
    expression[:, 1] = (torch.arange(T) % 4 > 0) * 0.6  # talks three quarters of the time
    orient = torch.zeros(T, 3)
    orient[:, 1] = 0.2
    orient[:5, 1] = -1.0
    params = params.replace(expression=expression, global_orient=orient)
    valid = np.ones(T, bool)
    neutral = video.neutral_of(params, valid)
    assert neutral.expression[0].tolist() == pytest.approx([0.1, 0.0])
    assert neutral.global_orient[0].tolist() == pytest.approx([0, 0.2, 0])
    valid[:] = False
    valid[:5] = True
    assert video.neutral_of(params, valid).global_orient[0, 1] == -1.0
