"""Files in, files out: source/ is complete and readable, motion files too; wrong input leaves nothing."""

import json
import shutil

import numpy as np
import pytest

from omega_cli.avatar import codecs, layout, record
from omega_cli.console import NullReport
from omega_cli.errors import OmegaError
from omega_cli.head.assets import load_head
from omega_cli.track import stage
from omega_cli.track.config import TrackConfig


@pytest.fixture(scope="module")
def avatar(astronaut, tmp_path_factory):
    root = tmp_path_factory.mktemp("track") / "avatar"
    opened = record.create_avatar(root, astronaut)
    folder = stage.run(opened, TrackConfig(), image=astronaut, report=NullReport())
    assert folder == opened.source
    return opened


def test_source_is_complete(avatar):
    names = {path.name for path in avatar.source.iterdir()}
    assert names == {
        layout.SOURCE_IMAGE, layout.SOURCE_PARSING, layout.SOURCE_CROP, layout.SOURCE_LANDMARKS,
        layout.SOURCE_OVERLAY, layout.FLAME, layout.CAMERAS, layout.STAGE,
    }  # fmt: skip
    image = codecs.load_image(avatar.source / layout.SOURCE_IMAGE, 4)
    parts = codecs.load_labels(avatar.source / layout.SOURCE_PARSING)
    assert image.shape == (4, 512, 512) and parts.shape == (512, 512)
    assert 0 < parts.max() < len(layout.PARSING_LABELS)
    assert codecs.load_image(avatar.source / layout.SOURCE_OVERLAY, 3).shape == (3, 512, 1024)
    arrays = codecs.load_arrays(avatar.source / layout.SOURCE_LANDMARKS)
    shapes = {name: array.shape for name, array in arrays.items()}
    assert shapes == {"points": (68, 2), "scores": (68,), "points478": (478, 2), "blendshapes": (52,)}


def test_files_alone_reproduce_the_landmarks(avatar):
    head = load_head()
    params = codecs.load_params(avatar.source / layout.FLAME)
    (camera,) = codecs.load_cameras(avatar.source / layout.CAMERAS)
    assert camera.id == "source" and camera.K[0, 0] == 1280 and (camera.width, camera.height) == (512, 512)
    points = codecs.load_arrays(avatar.source / layout.SOURCE_LANDMARKS)["points478"]
    pixels, _ = camera.project(head.landmark_points(head(params).vertices[0], "mediapipe478"))
    valid = head.landmarks["mediapipe478"].valid.numpy()
    error = np.linalg.norm(pixels.numpy() - points, axis=1)[valid].mean()
    assert error / np.ptp(points, axis=0).max() < 0.012


def test_crop_takes_photo_points_to_crop_points(avatar, astronaut):
    """crop.json is the whole way from the photo to the crop: the photo, moved by it, is the crop."""
    from PIL import Image
    from scipy.ndimage import map_coordinates

    crop = codecs.load_json(avatar.source / layout.SOURCE_CROP, "scale", "shift")
    photo = np.asarray(Image.open(astronaut).convert("RGB"), np.float32) / 255
    image = codecs.load_image(avatar.source / layout.SOURCE_IMAGE, 4).numpy()
    y, x = np.mgrid[0:512, 0:512] + 0.5
    at = [(y - crop["shift"][1]) / crop["scale"] - 0.5, (x - crop["shift"][0]) / crop["scale"] - 0.5]
    moved = np.stack([map_coordinates(photo[..., c], at, order=1) for c in range(3)])
    solid = image[3] == 1
    difference = np.abs(moved - image[:3])[:, solid].mean()
    shifted = np.abs(np.roll(moved, 1, axis=2) - image[:3])[:, solid].mean()
    assert difference < 0.01 and difference < 0.6 * shifted  # one pixel off would show


def test_the_record_names_networks_and_measures(avatar):
    document = json.loads((avatar.source / layout.STAGE).read_text())
    assert set(document["weights"]) == {"open_head", *stage.photo_networks(TrackConfig())}
    assert document["metrics"]["reprojection_percent"] < 1.2 and document["stage"] == "track"
    assert record.status(avatar, avatar.source).state == "fresh"


def test_wrong_input_leaves_nothing(tmp_path, shared_data):
    film = tmp_path / "film.png"
    shutil.copy(shared_data / "drivers" / "d18.mp4", film)
    empty = tmp_path / "empty.jpg"
    empty.touch()
    for path, message in ((film, "is a film"), (empty, "is empty"), (tmp_path, "is a folder"),
                          (tmp_path / "none.png", "There is no file")):  # fmt: skip
        with pytest.raises(OmegaError, match=message):
            stage.read_input(path)
    nobody = tmp_path / "nobody.png"
    from PIL import Image

    Image.new("RGB", (200, 200), "grey").save(nobody)
    root = tmp_path / "avatar"
    with pytest.raises(OmegaError, match="No face"):
        stage.run(record.create_avatar(root, nobody), TrackConfig(), image=nobody, report=NullReport())
    assert not root.exists() or not any(root.iterdir())


def test_a_film_becomes_a_motion_file(tmp_path, shared_data):
    out = tmp_path / "motion.npz"
    film = shared_data / "drivers" / "head-pose-face-detection-female.gif"
    assert stage.run_film(film, out, TrackConfig(), report=NullReport()) == out
    params = codecs.load_params(out)
    arrays = codecs.load_arrays(out, "times", "valid", "neutral_expression", "neutral_global_orient")
    assert len(params) == len(arrays["times"]) == len(arrays["valid"])
    assert codecs.load_params_meta(out)["fps"] == pytest.approx(12.5)
    assert arrays["neutral_expression"].shape == (1, 52) and [p.name for p in tmp_path.iterdir()] == [
        "motion.npz"
    ]


def test_config_rejects_nonsense():
    for wrong in ({"face": -1}, {"smooth": -0.1}, {"max_frames": -1}):
        with pytest.raises(ValueError):
            TrackConfig(**wrong)
