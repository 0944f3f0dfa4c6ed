"""Two photographs of one person as a sample: the second is driven, by what the first one tells of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import weight_file

from omega_cli.avatar.layout import Avatar
from omega_cli.console import NullReport
from omega_cli.errors import OmegaError
from omega_cli.head.arkit import ARKIT_NAMES
from omega_cli.head.assets import load_head
from omega_cli.track import stage as tracking
from omega_cli.track.config import TrackConfig
from omega_cli.track.landmarks import Landmarker, ibug_points
from omega_cli.train.avatar import makers, pairs, run
from omega_cli.train.avatar.samples import DRIVEN, SOURCE, AvatarSample
from omega_cli.train.config import PRESETS, TrainConfig
from omega_cli.train.views import portraits

SIZES = run.Sizes.of(TrainConfig(stage="avatar", **PRESETS["avatar"]["tiny"], preset="tiny"))


@pytest.fixture(scope="module")
def pack(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A neutral photo, a smiling one of the same person, a neutral one of another; tracked and packed."""
    folder = tmp_path_factory.mktemp("photos")
    for kind, name in (("neutral", "001_03"), ("smiling", "001_08"), ("neutral", "002_03")):
        photo = shared_data / "london_faces" / f"{kind}_front" / f"{name}.jpg"
        avatar = Avatar(folder / name)
        avatar.root.mkdir()
        tracking.run(avatar, TrackConfig(), image=photo, report=NullReport())
    out = tmp_path_factory.mktemp("pack") / "pack.npz"
    assert portraits.pack(folder, out, load_head()) == 3
    return out


@pytest.fixture(scope="module")
def landmarker():
    with Landmarker(weight_file("face_landmarker").read_bytes()) as found:
        yield found


@pytest.fixture(scope="module")
def made(pack: Path, landmarker: Landmarker):
    """(sample, the smiling portrait, its face)."""
    config = makers.MakerConfig(Path(), Path(), plan=SIZES.plan, views=SIZES.views, fit=SIZES.fit)
    ((neutral, smiling),) = pairs.read(pack, pairs.names(pack))
    face = pairs.face_of(smiling, landmarker)
    return pairs.sample(makers._studio(config), neutral, smiling, face), smiling, face


def test_only_people_with_both_photos_are_a_pair(pack: Path) -> None:
    assert pairs.names(pack) == [("001_03", "001_08")]


def test_a_smile_is_followed_with_the_neutral_photos_identity(made) -> None:
    sample, _, face = made
    targets, model = sample.targets, load_head()
    assert targets.kind.tolist() == [SOURCE, DRIVEN]
    assert torch.equal(targets.frames.betas, sample.params.betas)
    smile = [ARKIT_NAMES.index(name) for name in ("mouthSmileLeft", "mouthSmileRight")]
    neutral, driven = targets.frames.expression[:, smile].mean(1).tolist()
    assert driven > neutral + 0.3

    wanted = torch.from_numpy(ibug_points(face.points)[0]).float()
    size = targets.rgba.shape[-1]

    def error(expression: torch.Tensor) -> float:
        """Of the mouth's landmarks, in faces."""
        frame = targets.frames.frame(1).replace(expression=expression)
        points = model.landmark_points(model(frame, sample.offsets).vertices[0], "ibug68")
        pixels = targets.camera(1).project(points)[0] * (512 / size)
        return float((pixels - wanted)[48:].norm(dim=1).mean()) / face.size

    followed, left = (error(targets.frames.expression[k : k + 1]) for k in (1, 0))
    assert followed < 0.03 and followed < 0.7 * left


def test_its_picture_is_the_smiling_photo_without_shoulders(made) -> None:
    sample, smiling, face = made
    rgba, size = sample.targets.rgba[1].float() / 255, sample.targets.rgba.shape[-1]
    small = torch.nn.functional.interpolate(smiling.rgba[None], (size, size), mode="area")[0]
    assert (rgba[:3] - small[:3]).abs().max() < 0.01
    assert (rgba[3] <= small[3] + 0.01).all()
    x, y = (int(v * size / 512) for v in face.centre)
    assert rgba[3, y - 4 : y + 5, x - 4 : x + 5].min() > 0.95
    chin = int(face.box[3] * size / 512)
    shown = [alpha[chin + 4 :].sum() for alpha in (rgba[3], small[3])]
    assert shown[0] < 0.5 * shown[1]


def test_it_survives_its_file(made, tmp_path: Path) -> None:
    sample = made[0]
    sample.save(tmp_path / "pair.npz")
    again = AvatarSample.load(tmp_path / "pair.npz").targets
    assert torch.equal(again.rgba, sample.targets.rgba)
    assert torch.equal(again.frames.expression, sample.targets.frames.expression)


def test_a_portrait_without_a_face_is_named(made, landmarker: Landmarker) -> None:
    _, smiling, _ = made
    empty = portraits.Portrait(
        "nobody", torch.zeros(4, 512, 512), smiling.labels, smiling.area, smiling.params, smiling.camera
    )
    with pytest.raises(OmegaError, match="portrait nobody"):
        pairs.face_of(empty, landmarker)


def test_faces_kept_in_a_pack_are_those_that_the_landmarker_finds(pack, made, landmarker, tmp_path) -> None:
    own = tmp_path / "pack.npz"
    own.write_bytes(pack.read_bytes())
    with pytest.raises(OmegaError, match="no landmarks of 001_08"):
        pairs.kept_face(own, "001_08")
    assert pairs.keep_faces(own, landmarker) == 1
    kept, face = pairs.kept_face(own, "001_08"), made[2]
    for name in ("points", "depth", "scores", "rotation"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(face, name))
    assert portraits.names(own) == portraits.names(pack)
