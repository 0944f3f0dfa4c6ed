"""Ava-256's layout, written small and read back: transposed matrices, mm, lenses, AVIF in zips, masks."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from data import rig
from PIL import Image, features

from omega_cli.data import ava256
from omega_cli.data.reading import Lens, to_srgb
from omega_cli.errors import OmegaError
from omega_cli.evaluate.frames import standard_views
from omega_cli.evaluate.protocol import Protocol, Sample

IDENTITY = "20230308--1352--BDF920"
WIDTH, HEIGHT = 667, 1024  # a quarter of the sensor
LENS = (-0.9, 0.6, 0.03, -0.02)
CAMERAS = {  # id: K for 2668 × 4096 px, pose
    "401168": (np.array([[7500.0, 0, 1220], [0, 7460.0, 2190], [0, 0, 1]]), rig.pose(0, 4)),
    "400981": (np.array([[7210.0, 0, 1405], [0, 7190.0, 1960], [0, 0, 1]]), rig.pose(65, -30, 1.05)),
    "401031": (np.array([[7333.0, 0, 1300], [0, 7301.0, 2080], [0, 0, 1]]), rig.pose(-110, 75, 0.95)),
}
FRAMES = {"EXP_neutral_peak": range(100, 110), "EXP_jaw": range(540, 560)}
PICTURED = (103, 545)  # frames whose pictures are real; the others' are small stand-ins
HEAD = np.array([[0.0, 0.0, 1.0, 12.5], [1.0, 0.0, 0.0, -40.0], [0.0, 1.0, 0.0, 7.0]])  # mm


def photographs(camera: str, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """The picture as the lens throws it, and labels: 1 on the red light, 3 (chair) on green, 2 on blue."""
    K, viewmat = CAMERAS[camera]
    K = np.diag([0.25, 0.25, 1]) @ K
    pixels = rig.project(rig.lights(frame % 50), K, viewmat, LENS)
    picture = rig.photograph(pixels, WIDTH, HEIGHT, 9)
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    for channel, label in ((0, 1), (1, 3), (2, 2)):
        labels[picture[..., channel] > 125] = label
    return picture, labels


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **({"quality": 90, "speed": 10} if kind == "AVIF" else {}))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def _files(tmp_path_factory) -> dict[str, bytes]:
    """Every file of the capture's decoder/ folder."""
    stand_in = encoded(np.zeros((8, 8, 3), np.uint8), "AVIF")
    files: dict[str, bytes] = {}
    for camera in CAMERAS:
        images, parts = io.BytesIO(), io.BytesIO()
        with zipfile.ZipFile(images, "w") as image_zip, zipfile.ZipFile(parts, "w") as part_zip:
            for frame in (f for span in FRAMES.values() for f in span):
                if (camera, frame) in (("401168", 107), ("400981", 545)):  # dropped by the recording
                    continue
                picture, labels = photographs(camera, frame) if frame in PICTURED else (None, None)
                name = f"cam{camera}/{frame:06d}"
                image_zip.writestr(f"{name}.avif", stand_in if picture is None else encoded(picture, "AVIF"))
                part_zip.writestr(f"{name}.png", b"" if labels is None else encoded(labels, "PNG"))
        files[f"image/cam{camera}.zip"] = images.getvalue()
        files[f"segmentation_parts/cam{camera}.zip"] = parts.getvalue()
    poses = io.BytesIO()
    with zipfile.ZipFile(poses, "w") as file:
        for frame in PICTURED:
            file.writestr(f"{frame:06d}.txt", "\n".join(" ".join(map(str, row)) for row in HEAD))
    files["head_pose/head_pose.zip"] = poses.getvalue()
    krt = []
    for camera, (K, viewmat) in CAMERAS.items():
        T = viewmat.copy()
        T[:3, 3] *= 1000
        krt.append({"cameraId": camera, "K": K.T.tolist(), "T": T.T.tolist(), "distortion": list(LENS)})
    files["camera_calibration.json"] = json.dumps({"KRT": krt}).encode()
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["seg_id", "frame_id"])
    writer.writerows([(name, frame) for name, span in FRAMES.items() for frame in span])
    files["frame_list.csv"] = table.getvalue().encode()
    return files


@pytest.fixture
def root(_files: dict[str, bytes], tmp_path: Path) -> Path:
    for name, data in _files.items():
        path = tmp_path / IDENTITY / "decoder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path


def protocol(*frames: int, **choices) -> Protocol:
    segment = {frame: name for name, span in FRAMES.items() for frame in span}
    samples = tuple(Sample(IDENTITY, segment[frame], frames=(frame,)) for frame in frames)
    choices = {"crop_centre": "head_pose", "mask": "dataset"} | choices
    return Protocol("small", "ava256", samples, "401168", **choices)


def test_pillow_here_reads_avif() -> None:
    assert features.check("avif")


def test_lights_are_where_the_straight_cameras_say(root: Path) -> None:
    bent = 0.0
    for frame in ava256.read(root, protocol(*PICTURED)):
        points = rig.lights(frame.frame % 50)
        for view in (frame.source, *frame.targets):
            K, viewmat = CAMERAS[view.camera.id]
            K = np.diag([0.25, 0.25, 1]) @ K
            torch.testing.assert_close(view.camera.K, torch.from_numpy(K).float())
            torch.testing.assert_close(view.camera.viewmat, torch.from_numpy(viewmat).float())
            there = view.camera.project(torch.from_numpy(points).float())[0].numpy()
            assert np.abs(rig.find(view.image()) - there).max() < 0.3, view.camera.id
            bent = max(bent, np.abs(rig.project(points, K, viewmat, LENS) - there).max())
    assert bent > 2  # the lens would have shown


def test_masks_follow_the_lens_and_the_labels(root: Path) -> None:
    frame = next(ava256.read(root, protocol(103)))
    for view in (frame.source, *frame.targets):
        mask = view.mask()
        assert mask is not None and mask.shape == (1, HEIGHT, WIDTH)
        u, v = view.camera.project(torch.from_numpy(rig.lights(103 % 50)).float())[0].long().T
        assert mask[0, v, u].tolist() == [1, 0, 1]  # hair, chair, body
        # the edge of the label is where the straightened picture is half as bright
        bright = view.image()[0] > 125 / 255
        red = mask[0].bool() & (view.image()[2] < 0.3)
        assert float((bright ^ red).sum()) < 0.12 * float(bright.sum())
    chair = next(ava256.read(root, protocol(103, foreground_labels=(3,)))).source.mask()
    assert chair is not None and 0 < float(chair.sum()) < 2000


def test_what_the_lens_did_not_see_is_marked() -> None:
    """Pincushion distortion: the straight picture's corners lie outside the stored one, and are 0."""
    K = np.array([[200.0, 0, 60], [0, 210.0, 50], [0, 0, 1]])
    lens = Lens(K, np.array([0.8, 0, 0, 0]), 120, 100)
    seen = lens.seen()
    assert seen is not None
    straight = lens.straighten(np.full((100, 120, 3), 200, np.uint8))
    assert seen[0, 50, 60] == 1 and seen[0, 0, 0] == 0
    inside = seen[0].bool().numpy()
    assert (straight[inside] == 200).all() and (straight[~inside] == 0).all()
    plain = Lens(K, np.zeros(4), 120, 100)
    assert plain.seen() is None


def test_head_pose_is_in_metres(root: Path) -> None:
    frame = next(ava256.read(root, protocol(103)))
    wanted = torch.tensor(HEAD).float()
    wanted[:, 3] /= 1000
    assert frame.head_pose is not None
    torch.testing.assert_close(frame.head_pose[:3], wanted)
    source, _ = standard_views(frame, protocol(103, size=32))
    middle = source.camera.project(frame.head_pose[None, :3, 3])[0]
    assert (middle - 16).abs().max() < 0.2


def test_dropped_pictures_are_counted(root: Path) -> None:
    [frame] = ava256.read(root, protocol(545))
    assert frame.missing == ("400981",) and [v.camera.id for v in frame.targets] == ["401031"]
    # the rig's centre does not move when a camera drops out
    whole = next(ava256.read(root, protocol(103)))
    assert whole.rig_centre is not None and frame.rig_centre is not None
    torch.testing.assert_close(frame.rig_centre, whole.rig_centre)


def test_freeze_names_recorded_frames(root: Path) -> None:
    fractions = tuple(i / 29 for i in range(29))  # every frame but the dropped one
    loose = dataclasses.replace(protocol(103), samples=(Sample(IDENTITY, "*", fractions=fractions),))
    frozen = ava256.freeze(root, loose)
    assert {s.sequence: s.frames for s in frozen.samples} == {
        "EXP_neutral_peak": tuple(f for f in FRAMES["EXP_neutral_peak"] if f != 107),
        "EXP_jaw": tuple(FRAMES["EXP_jaw"]),
    }
    assert ava256.freeze(root, frozen) is frozen
    one = dataclasses.replace(loose, samples=(Sample(IDENTITY, "EXP_jaw", fractions=(0.25, 0.26)),))
    assert ava256.freeze(root, one).samples == (Sample(IDENTITY, "EXP_jaw", frames=(545, 546)),)


def test_linear_pictures_are_turned_to_srgb(root: Path) -> None:
    stored = next(ava256.read(root, protocol(103))).source.image()
    turned = next(ava256.read(root, protocol(103, colour="linear"))).source.image()
    torch.testing.assert_close(turned, to_srgb(stored))


def test_without_segmentation(root: Path) -> None:
    for path in (root / IDENTITY / "decoder/segmentation_parts").iterdir():
        path.unlink()
    frame = next(ava256.read(root, protocol(103, mask="matte")))
    assert frame.source.mask() is None
    with pytest.raises(OmegaError, match="segmentation of camera 401168") as caught:
        next(ava256.read(root, protocol(103)))
    assert "segmentation_parts" in caught.value.hint


def spoil(root: Path, what: str) -> None:
    folder = root / IDENTITY / "decoder"
    path = folder / "camera_calibration.json"
    data = json.loads(path.read_text())
    if what == "upright T":
        data["KRT"][0]["T"] = np.transpose(data["KRT"][0]["T"]).tolist()
    elif what == "upright K":
        data["KRT"][0]["K"] = np.transpose(data["KRT"][0]["K"]).tolist()
    elif what == "fisheye":
        data["KRT"][0]["distortionModel"] = "fisheye"
    elif what == "other size":
        data["KRT"][0] |= {"width": 4000, "height": 3000}
    elif what == "no KRT":
        data = {}
    path.write_text(json.dumps(data))
    if what == "no calibration":
        path.unlink()
    elif what == "no pictures":
        (folder / "image/cam401168.zip").unlink()
    elif what == "no zip":
        (folder / "image/cam401168.zip").write_bytes(b"half a downl")
    elif what == "no capture":
        (root / IDENTITY).rename(root / "elsewhere")


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("upright T", "T of camera 401168"),
        ("upright K", "K of camera 401168"),
        ("fisheye", "lens model 'fisheye'"),
        ("other size", "no scaled 4000×3000"),
        ("no KRT", '"KRT"'),
        ("no calibration", "camera_calibration.json is missing"),
        ("no pictures", "cam401168.zip is missing"),
        ("no zip", "no readable zip"),
        ("no capture", f"capture {IDENTITY}"),
    ],
)
def test_what_is_missing_is_said(root: Path, what: str, says: str) -> None:
    spoil(root, what)
    with pytest.raises(OmegaError) as caught:
        next(ava256.read(root, protocol(103)))
    assert says in caught.value.message and str(root) in caught.value.message
    assert caught.value.hint


def test_colour_matrices_are_refused(root: Path) -> None:
    with pytest.raises(OmegaError, match="no colour matrices"):
        next(ava256.read(root, protocol(103, colour="calibrated")))


def test_a_pillow_without_avif_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(OmegaError, match="AVIF") as caught:
        next(ava256.read(root, protocol(103)))
    assert "pillow>=11.3" in caught.value.hint
