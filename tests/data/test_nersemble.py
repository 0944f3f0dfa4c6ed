"""NeRSemble's layout, written small and read back: films, shared K, poses, colours, what is missing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from data import rig
from PIL import Image

from omega_cli.data import nersemble
from omega_cli.data.reading import to_linear, to_srgb
from omega_cli.errors import OmegaError
from omega_cli.evaluate.frames import head_box, standard_views
from omega_cli.evaluate.protocol import Protocol, Sample

WIDTH, HEIGHT, COUNT = 220, 320, 90  # a tenth of the sensor, its height rounded to even
K = np.array([[6200.0, 0, 1030], [0, 6150.0, 1660], [0, 0, 1]])  # for 2200 × 3208 px
POSES = {
    "222200037": rig.pose(0, 3),
    "222200041": rig.pose(50, -20, 1.1),
    "220700191": rig.pose(-70, 11, 0.9),
}
SEQUENCE = "EXP-3-cheeks+nose"


def film(path: Path, viewmat: np.ndarray, count: int = COUNT, shift: int = 0) -> None:
    """H.264 with B-frames and few key frames, like the data set's."""
    stored = np.diag([WIDTH / 2200, HEIGHT / 3208, 1]) @ K
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=24, options={"crf": "8", "preset": "veryfast", "g": "40"}
        )
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.max_b_frames = 2
        for number in range(count):
            pixels = rig.project(rig.lights(number), stored, viewmat)
            picture = rig.photograph(pixels + shift, WIDTH, HEIGHT, 7)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")):
                container.mux(packet)
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def _made(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("nersemble")
    for serial, viewmat in POSES.items():
        # one camera that dropped its last frames
        short = COUNT - 10 if serial == "220700191" else COUNT
        film(root / "017" / "sequences" / SEQUENCE / "images" / f"cam_{serial}.mp4", viewmat, short)
    folder = root / "017" / "calibration"
    folder.mkdir()
    poses = {serial: viewmat.tolist() for serial, viewmat in POSES.items()}
    (folder / "camera_params.json").write_text(json.dumps({"world_2_cam": poses, "intrinsics": K.tolist()}))
    matrices = {serial: [[0.9, 0.05, 0.0], [0.0, 0.8, 0.1], [0.02, 0.0, 0.7]] for serial in POSES}
    (folder / "color_calibration.json").write_text(json.dumps(matrices))
    (root / "017/sequences/BACKGROUND").mkdir()
    Image.new("RGB", (WIDTH, HEIGHT), (200, 100, 50)).save(
        root / "017/sequences/BACKGROUND/image_222200037.jpg"
    )
    return root


@pytest.fixture
def root(_made: Path, tmp_path: Path) -> Path:
    """A copy whose files can be spoilt (films are linked)."""
    for path in _made.rglob("*"):
        new = tmp_path / path.relative_to(_made)
        if path.is_dir():
            new.mkdir()
        elif path.suffix == ".mp4":
            new.symlink_to(path)
        else:
            new.write_bytes(path.read_bytes())
    return tmp_path


def protocol(*frames: int, **choices) -> Protocol:
    sample = Sample("017", SEQUENCE, frames=frames)
    return Protocol("small", "nersemble", (sample,), "222200037", **choices)


def test_lights_are_where_the_cameras_say(root: Path) -> None:
    """Every frame asked for, forward and backward, is that frame and is seen by that camera."""
    frames = list(nersemble.read(root, protocol(0, 7, 39, 41, 79)))
    assert [f.key for f in frames] == [f"017/{SEQUENCE}/{n:06d}" for n in (0, 7, 39, 41, 79)]
    assert [v.camera.id for v in frames[0].targets] == ["220700191", "222200041"]
    for frame in [*frames, *reversed(frames)]:
        for view in (frame.source, *frame.targets):
            image = view.image()
            assert image.shape == (3, HEIGHT, WIDTH)
            there = view.camera.project(torch.from_numpy(rig.lights(frame.frame)).float())[0]
            # from frame to frame the lights move by 0.9 px or more, so this also tells the frame
            assert np.abs(rig.find(image) - there.numpy()).max() < 0.35, (frame.key, view.camera.id)
            assert view.mask() is None and view.seen() is None
    near, far = (rig.project(rig.lights(n), *stored("222200037")) for n in (39, 40))
    assert np.linalg.norm(far - near, axis=1).min() > 0.8


def stored(serial: str) -> tuple[np.ndarray, np.ndarray]:
    return np.diag([WIDTH / 2200, HEIGHT / 3208, 1]) @ K, POSES[serial]


def test_one_K_is_scaled_to_the_stored_size(root: Path) -> None:
    frame = next(nersemble.read(root, protocol(0)))
    camera = frame.source.camera
    assert (camera.width, camera.height) == (WIDTH, HEIGHT)
    wanted = [[620.0, 0, 103], [0, 6150 * 320 / 3208, 1660 * 320 / 3208], [0, 0, 1]]
    torch.testing.assert_close(camera.K, torch.tensor(wanted))
    torch.testing.assert_close(camera.viewmat, torch.from_numpy(POSES["222200037"]).float())


def test_the_rig_looks_at_its_centre(root: Path) -> None:
    frame = next(nersemble.read(root, protocol(0)))
    assert frame.rig_centre is not None and frame.rig_centre.norm() < 1e-3
    source, targets = standard_views(frame, protocol(0, size=64, crop_radius_m=0.3))
    for view, whole in zip((source, *targets), (frame.source, *frame.targets), strict=True):
        assert view.image().shape == (3, 64, 64)
        points = torch.from_numpy(rig.lights(0)).float()
        box = head_box(whole.camera, frame.rig_centre, 0.3)
        scale = 64 / box.side
        expected = (whole.camera.project(points)[0] - torch.tensor([box.left, box.top])) * scale
        torch.testing.assert_close(view.camera.project(points)[0], expected, atol=1e-3, rtol=0)
        assert np.abs(rig.find(view.image()) - expected.numpy()).max() < 0.2
        middle = view.camera.project(torch.zeros(1, 3))[0]
        assert (middle - 32).abs().max() < 0.5
        # the photo is narrower than the square: what it does not show is marked
        seen = view.seen()
        assert seen is not None and seen[0, 32, 32] > 0.999 and 0 < float(seen.mean()) < 0.9
        assert float(view.image()[:, seen[0] == 0].sum()) == 0


def test_a_camera_without_the_frame_is_counted(root: Path) -> None:
    [frame] = nersemble.read(root, protocol(85))
    assert frame.missing == ("220700191",)
    assert [v.camera.id for v in frame.targets] == ["222200041"]


def test_freeze_uses_frames_that_all_cameras_have(root: Path) -> None:
    sample = Sample("017", SEQUENCE, fractions=(0.0, 0.5, 0.9999))
    loose = dataclasses.replace(protocol(0), samples=(sample,))
    frozen = nersemble.freeze(root, loose)
    assert frozen.frozen and frozen.samples[0].frames == (0, 40, 79)
    assert nersemble.freeze(root, frozen) is frozen


def test_a_film_of_uneven_rate_is_read_by_number(tmp_path: Path) -> None:
    """Frames are found by their own clock, not by an average rate."""
    path = tmp_path / "cam.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "5", "g": "12"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(40):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 6 * number, np.uint8), "rgb24")
            picture.pts = number if number < 20 else 5 * number
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    video = nersemble.Video(path)
    assert video.count == 40 and video.size == (64, 48)
    for number in (0, 5, 19, 20, 21, 39, 3, 38):
        assert abs(float(video.frame(number).mean()) - 6 * number) < 2, number
    video.close()
    assert abs(float(video.frame(30).mean()) - 180) < 2


def test_a_damaged_film_is_said(tmp_path: Path) -> None:
    path = tmp_path / "cam.mp4"
    film(path, POSES["222200037"], 60)
    data = bytearray(path.read_bytes())
    path.write_bytes(data[: len(data) // 2])  # the table of frames lies at the end
    with pytest.raises(OmegaError, match=r"cam\.mp4") as caught:
        nersemble.Video(path).frame(3)
    assert "again" in caught.value.hint


def test_nothing_is_opened_before_it_is_asked_for(root: Path) -> None:
    """Reading frames looks at headers; pictures wait. A film replaced later is read as replaced."""
    frames = nersemble.read(root, protocol(3))
    path = root / "017/sequences" / SEQUENCE / "images/cam_222200041.mp4"
    path.unlink()
    film(path, POSES["222200041"], 20, shift=11)
    [view] = [v for v in next(frames).targets if v.camera.id == "222200041"]
    there = view.camera.project(torch.from_numpy(rig.lights(3)).float())[0].numpy()
    assert np.abs(rig.find(view.image()) - there - 11).max() < 0.35


def test_colours_are_corrected_in_linear_light(root: Path) -> None:
    raw = next(nersemble.read(root, protocol(4))).source.image()
    done = next(nersemble.read(root, protocol(4, colour="calibrated"))).source.image()
    M = torch.tensor([[0.9, 0.05, 0.0], [0.0, 0.8, 0.1], [0.02, 0.0, 0.7]])
    torch.testing.assert_close(done, to_srgb(torch.einsum("ij,jhw->ihw", M, to_linear(raw))))
    background = next(nersemble.read(root, protocol(4))).source.background()
    assert background is not None
    assert (background.mean((1, 2)) * 255 - torch.tensor([200.0, 100, 50])).abs().max() < 2


def test_colour_terms_are_those_of_the_publication() -> None:
    """Values that the colour-science library's own tests list for Cheung et al.'s expansions."""
    rgb = [0.17224810, 0.09170660, 0.06416938]
    tails = {
        4: [1.0],
        5: [0.00101364, 1.0],
        7: [0.01579629, 0.01105305, 0.00588476, 1.0],
        8: [0.01579629, 0.01105305, 0.00588476, 0.00101364, 1.0],
        10: [0.01579629, 0.01105305, 0.00588476, 0.02966941, 0.00841010, 0.00411771, 1.0],
    }
    image = to_srgb(torch.tensor(rgb))[:, None, None]
    for count, tail in tails.items():
        for column, value in enumerate([*rgb, *tail]):
            picker = np.zeros((3, count))
            picker[1, column] = 1
            found = to_linear(nersemble.colour_corrected(image, picker))[:, 0, 0]
            assert abs(float(found[1]) - value) < 1e-6 and float(found[0]) == 0
    worked = np.array(
        [[1.05263767, 0.13780789, -0.22763399], [0.07395843, 1.02939945, -0.1060115],
         [0.05725508, -0.20526336, 1.10151945]]
    )  # fmt: skip
    found = to_linear(nersemble.colour_corrected(image, worked))[:, 0, 0]
    torch.testing.assert_close(found, torch.tensor([0.1793456, 0.1003392, 0.0617218]), atol=1e-6, rtol=0)
    with pytest.raises(OmegaError, match="3×6 is not known"):
        nersemble.colour_corrected(image, np.zeros((3, 6)))


def spoil(root: Path, what: str) -> None:
    folder = root / "017"
    calibration = folder / "calibration/camera_params.json"
    data = json.loads(calibration.read_text())
    images = folder / "sequences" / SEQUENCE / "images"
    if what == "transposed":
        data["world_2_cam"] = {s: np.transpose(m).tolist() for s, m in data["world_2_cam"].items()}
    elif what == "no camera":
        del data["world_2_cam"]["222200041"]
    elif what == "no key":
        del data["intrinsics"]
    calibration.write_text(json.dumps(data))
    if what == "no calibration":
        calibration.unlink()
    elif what == "no source":
        (images / "cam_222200037.mp4").unlink()
    elif what == "no sequence":
        images.rename(folder / "elsewhere")
    elif what == "no identity":
        folder.rename(root / "018")
    elif what == "no colours":
        (folder / "calibration/color_calibration.json").unlink()
    elif what == "no film":
        path = images / "cam_222200041.mp4"
        path.unlink()
        path.write_bytes(b"not a film")


@pytest.mark.parametrize(
    ("what", "says", "helps"),
    [
        ("transposed", "world_2_cam of 2222", "another version"),
        ("no camera", "no camera 222200041", "leave this camera out"),
        ("no key", '"intrinsics"', "v2"),
        ("no calibration", "camera_params.json is missing", "nersemble-data download"),
        ("no source", "no cam_222200037.mp4", "It has 220700191, 222200041"),
        ("no sequence", "NeRSemble sequence EXP-3", "--participant 17 --sequence EXP-3-cheeks"),
        ("no identity", "NeRSemble identity 017", "--participant 17"),
        ("no colours", "color_calibration.json is missing", '"colour": "stored"'),
        ("no film", "cam_222200041.mp4 is not a film", "Fetch"),
    ],
)
def test_what_is_missing_is_said(root: Path, what: str, says: str, helps: str) -> None:
    spoil(root, what)
    with pytest.raises(OmegaError) as caught:
        next(nersemble.read(root, protocol(0, colour="calibrated")))
    assert says in caught.value.message and str(root) in caught.value.message
    assert helps in caught.value.hint


def test_a_frame_beyond_the_end_is_said(root: Path) -> None:
    frame = next(nersemble.read(root, protocol(COUNT + 5)))
    with pytest.raises(OmegaError, match=rf"no frame {COUNT + 5} \(of {COUNT}\)"):
        frame.source.image()
