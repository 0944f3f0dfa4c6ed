"""CSIM: alignment as OpenCV's, people told apart at the LFW threshold, NaN where there is no face."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx_files
import pytest
import torch
from conftest import weight_file
from PIL import Image
from torch import Tensor

from omega_cli import weights
from omega_cli.errors import OmegaError
from omega_cli.metrics.alignment import SIDE, TEMPLATE
from omega_cli.metrics.csim import SFACE_SAME, Csim, FaceFinder, align, cosine, load_csim


@pytest.fixture(scope="module")
def csim() -> Csim:
    weight_file("sface"), weight_file("yunet")
    return load_csim("sface")


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder(weight_file("yunet"))


def picture(path: Path, box: tuple[int, int, int, int] | None = None, side: int = 256) -> Tensor:
    """[1, 3, side, side] in [0, 1] of a box of a photo."""
    with Image.open(path) as photo:
        pixels = np.asarray(photo.convert("RGB").crop(box or (0, 0, *photo.size)).resize((side, side)))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def collins(astronaut: Path) -> Tensor:
    return picture(astronaut, (96, 0, 352, 256))


@pytest.fixture(scope="module")
def hopper(grace_hopper: Path) -> Tensor:
    return picture(grace_hopper, (56, 20, 456, 420))


def test_one_person_is_above_and_two_are_below_the_threshold(
    csim: Csim, collins: Tensor, hopper: Tensor
) -> None:
    """The same photo mirrored, dimmed, noisy and small is one person; the other portrait is another."""
    noise = torch.randn(collins.shape, generator=torch.Generator().manual_seed(0))
    small = torch.nn.functional.interpolate(collins, size=(96, 96), mode="area")
    for again in (collins.flip(3), 0.5 * collins, (collins + 0.05 * noise).clamp(0, 1), small):
        assert csim(collins, again).item() > 0.75 > SFACE_SAME
    assert csim(collins, hopper).item() < SFACE_SAME


def test_people_of_two_photos_each(csim: Csim, shared_data: Path) -> None:
    """Neutral against smiling: every pair of one person is above, every pair of two people below."""
    folder = shared_data / "london_faces"
    names = [p.name[:3] for p in sorted((folder / "neutral_front").glob("*.jpg"))][:6]
    neutral = torch.cat([picture(folder / "neutral_front" / f"{name}_03.jpg") for name in names])
    smiling = torch.cat([picture(folder / "smiling_front" / f"{name}_08.jpg") for name in names])
    table = csim.embed(neutral) @ csim.embed(smiling).T
    others = table[~torch.eye(len(names), dtype=torch.bool)]
    assert table.diagonal().min() > 0.8 and others.max() < SFACE_SAME


def test_a_picture_and_itself(csim: Csim, collins: Tensor) -> None:
    assert csim(collins, collins).item() == pytest.approx(1, abs=1e-6)


def test_a_batch_is_each_pair_alone_and_no_face_is_nan(csim: Csim, collins: Tensor, hopper: Tensor) -> None:
    grey = torch.full_like(collins, 0.5)
    a, b = torch.cat([collins, collins, grey, hopper]), torch.cat([hopper, grey, hopper, hopper.flip(3)])
    alone = torch.cat([csim(a[i : i + 1], b[i : i + 1]) for i in range(4)])
    values = csim(a, b)
    assert torch.isnan(values).tolist() == [False, True, True, False]
    assert torch.equal(values.nan_to_num(), alone.nan_to_num())
    assert csim(grey, grey).isnan().all() and csim(a[:0], b[:0]).shape == (0,)
    assert torch.equal(cosine(csim.embed(a), csim.embed(b)).nan_to_num(), values.nan_to_num())


def test_a_changed_face_is_less_alike(csim: Csim, collins: Tensor, hopper: Tensor) -> None:
    """Blending the other person in lowers the cosine step by step."""
    values = [csim(collins, (1 - t) * collins + t * hopper).item() for t in (0.0, 0.3, 0.6, 0.9)]
    assert values == sorted(values, reverse=True)


def test_the_name_says_the_network(csim: Csim) -> None:
    assert csim.name == "CSIM-SFace"


def test_the_face_is_aligned_as_opencv_does(finder: FaceFinder, collins: Tensor) -> None:
    rgb = (collins[0].permute(1, 2, 0) * 255).round().byte().numpy()
    points = finder.points(rgb)
    assert points is not None
    row = np.zeros((1, 15), np.float32)
    row[0, 4:14] = points.reshape(-1)
    recogniser = cv2.FaceRecognizerSF.create(str(weight_file("sface")), "")
    theirs = recogniser.alignCrop(np.ascontiguousarray(rgb[:, :, ::-1]), row)[:, :, ::-1]
    assert np.abs(align(rgb, points).astype(int) - theirs).mean() < 0.5


def test_alignment_undoes_a_similarity() -> None:
    """A picture of the template, turned, scaled and moved, comes back with the points in their places."""
    turn = np.deg2rad(25)
    matrix = 2.5 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = np.array(TEMPLATE) @ matrix.T + (150, 40)
    canvas = np.zeros((500, 500, 3), np.uint8)
    for x, y in points:
        cv2.circle(canvas, (round(x * 16), round(y * 16)), 5 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
    face = align(canvas, points)
    for x, y in TEMPLATE:
        around = face[round(y) - 5 : round(y) + 6, round(x) - 5 : round(x) + 6, 0].astype(float)
        rows, columns = np.mgrid[-5:6, -5:6]
        centre = np.array([(columns * around).sum(), (rows * around).sum()]) / around.sum()
        assert np.abs(centre - (x - round(x), y - round(y))).max() < 0.3


def test_points_follow_the_picture(finder: FaceFinder, collins: Tensor) -> None:
    """Twice the size is twice the points; moved by 20 px is moved by 20 px."""
    rgb = (collins[0].permute(1, 2, 0) * 255).round().byte().numpy()
    points = finder.points(rgb)
    twice = finder.points(cv2.resize(rgb, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR))
    moved = finder.points(np.roll(rgb, 20, axis=1))
    assert points is not None and twice is not None and moved is not None
    assert np.abs((twice + 0.5) / 2 - 0.5 - points).mean() < 1  # of 42 px between the eyes
    assert np.abs(moved - (20, 0) - points).mean() < 1
    assert (
        points[0, 0] < points[2, 0] < points[1, 0]
        and points[:2, 1].max() < points[2, 1] < points[3:, 1].min()
    )


def toy_arcface(mxnet: bool = False, side: int = SIDE) -> bytes:
    """A real ONNX file: mean colours of 4 × 4 tiles of the face, 48 numbers."""
    nodes, start, values = [], "data", []
    if mxnet:
        nodes = [
            onnx_files.node("Sub", ["data", "c0"], ["_minusscalar0"]),
            onnx_files.node("Mul", ["_minusscalar0", "c1"], ["_mulscalar0"]),
        ]
        values = [onnx_files.tensor("c0", np.float32(127.5)), onnx_files.tensor("c1", np.float32(1 / 128))]
        start = "_mulscalar0"
    nodes.append(onnx_files.node("AveragePool", [start], ["pooled"], kernel_shape=[28, 28], strides=[28, 28]))
    nodes.append(onnx_files.node("Flatten", ["pooled"], ["fc1"]))
    return onnx_files.model(nodes, values, {"data": (1, 3, side, side)}, {"fc1": (1, 48)})


@pytest.mark.parametrize("mxnet", [False, True])
def test_the_users_arcface(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finder: FaceFinder, collins: Tensor, mxnet: bool
) -> None:
    """The file is found, fed an aligned RGB face, normalised once: by us, or by the graph itself."""
    (tmp_path / "arcface.onnx").write_bytes(toy_arcface(mxnet))
    monkeypatch.setenv("OMEGA_WEIGHTS", str(tmp_path))
    csim = load_csim("arcface")
    assert csim.name == "CSIM-ArcFace"
    rgb = (collins[0].permute(1, 2, 0) * 255).round().byte().numpy()
    points = finder.points(rgb)
    assert points is not None
    tiles = (
        align(rgb, points).astype(np.float64).reshape(4, 28, 4, 28, 3).mean((1, 3)).transpose(2, 0, 1).ravel()
    )
    expected = tiles - 127.5
    found = csim.embed(collins)[0].numpy()
    assert found == pytest.approx(expected / np.linalg.norm(expected), abs=1e-5)


def test_what_is_no_face_network_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMEGA_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("OMEGA_CACHE", str(tmp_path / "none"))
    with pytest.raises(OmegaError, match=r"arcface\.onnx is missing") as caught:
        load_csim("arcface")
    assert "InsightFace" in caught.value.hint and "$OMEGA_WEIGHTS" in caught.value.hint
    (tmp_path / "arcface.onnx").write_bytes(b"no network")
    with pytest.raises(OmegaError, match="no ONNX file"):
        load_csim("arcface")
    (tmp_path / "arcface.onnx").write_bytes(toy_arcface(side=96))
    with pytest.raises(OmegaError, match="no face network"):
        load_csim("arcface")
    with pytest.raises(ValueError, match="model must be one of sface, arcface"):
        load_csim("facenet")  # pyright: ignore


def test_wrong_input_is_named(csim: Csim, collins: Tensor) -> None:
    with pytest.raises(ValueError, match=r"images must be in \[0, 1\]"):
        csim(collins * 255, collins)
    with pytest.raises(ValueError, match="as many"):
        csim(collins, collins.expand(2, -1, -1, -1))
    with pytest.raises(ValueError, match=r"\[B, D\]"):
        cosine(torch.ones(2, 3), torch.ones(2, 4))


def test_the_registry_knows_both() -> None:
    assert weights.entry("arcface").kind == "user" and weights.entry("sface").fetchable
