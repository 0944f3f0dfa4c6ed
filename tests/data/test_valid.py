"""VALID heads: a small library whose colours tell left, right, top and back; and the real one, if here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from omega_cli.data import valid
from omega_cli.errors import OmegaError
from omega_cli.evaluate.frames import Box, compose, standard_views
from omega_cli.evaluate.protocol import Protocol, Sample, standard

CENTRE = np.array([0.01, 1.6, 0.05])  # of the skull, by the joints below


def library(root: Path) -> Path:
    """A head that is a plate facing +z (red left, green right in the picture, dark below), a blue wig
    plate behind it, and a spike that reaches far beyond the head."""
    (root / "tex").mkdir()
    corners = np.array([[-0.1, 0.1, 0], [0.1, 0.1, 0], [0.1, -0.1, 0], [-0.1, -0.1, 0]])
    spike = np.array([[-0.01, 0.05, 0.01], [0.01, 0.05, 0.01], [0.0, 0.6, 0.01]])
    verts = (np.concatenate([corners, spike]) + CENTRE)[None].astype(np.float32)
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1], *[[0.9, 0.1]] * 3], np.float32)
    head, end = CENTRE + [0, -0.03, -0.03], CENTRE + [0, 0.07, -0.03]
    np.savez(
        root / "heads.npz", names=["A_1"], verts=verts, uv=uv,
        faces=np.array([[0, 2, 1], [0, 3, 2], [4, 5, 6]], np.int32),
        joint_names=["Head", "Neck", "HeadEnd"], joints=np.stack([head, head, end])[None],
    )  # fmt: skip
    back = (corners + CENTRE + [0, 0, -0.05]).astype(np.float32)
    parts = {"v": back, "f": np.array([[0, 1, 2], [0, 2, 3]], np.uint16), "uv": uv[:4]}
    np.savez(root / "parts.npz", **{f"A_1/h_wig/{key}": value for key, value in parts.items()})
    skin = np.zeros((64, 64, 3), np.uint8)
    skin[:32, :32], skin[:32, 32:] = (220, 0, 0), (0, 220, 0)
    skin[32:, :32], skin[32:, 32:] = (110, 0, 0), (0, 110, 0)
    Image.fromarray(skin).save(root / "tex/A_1_skin.jpg", quality=100, subsampling=0)
    Image.new("RGB", (16, 16), (0, 0, 200)).save(root / "tex/A_1_wig.jpg", quality=100)
    return root


def protocol(*targets: str, **choices) -> Protocol:
    samples = (Sample("A_1", "neutral", frames=(0,)),)
    choices = {"crop": "whole", "crop_centre": "head_pose", "mask": "dataset", "size": 96} | choices
    return Protocol("small", "valid", samples, "az000_el+00", targets, **choices)


def test_the_plate_is_seen_the_right_way_round(tmp_path: Path) -> None:
    targets = ("az180_el+00", "az045_el+00", "az000_el+45")
    [frame] = valid.read(library(tmp_path), protocol(*targets))
    assert [v.camera.id for v in (frame.source, *frame.targets)] == ["az000_el+00", *targets]
    front, back = frame.source.image(), frame.targets[0].image()
    s = 96
    left, right, low = front[:, s // 2 - 8, s // 2 - 14], front[:, s // 2 - 8, s // 2 + 14], front[:, 64, 64]
    assert left.argmax() == 0 and right.argmax() == 1 and low.argmax() == 1
    assert float(low[1]) < 0.7 * float(right[1]) and float(left[1]) < 0.1
    assert back[:, s // 2, s // 2].argmax() == 2
    # from the subject's left the left half of the face (green) is the nearer, so the larger
    mask = frame.targets[1].mask()
    assert mask is not None
    turned = frame.targets[1].image() * mask
    assert float((turned[1] > 0.3).sum()) > float((turned[0] > 0.3).sum()) > 0


def test_geometry_and_alpha_agree_with_the_camera(tmp_path: Path) -> None:
    [frame] = valid.read(library(tmp_path), protocol("az180_el+00"))
    assert frame.head_pose is not None
    torch.testing.assert_close(frame.head_pose[:3, 3], torch.from_numpy(CENTRE).float())
    camera, mask = frame.source.camera, frame.source.mask()
    assert mask is not None and camera.width == camera.height == 96
    corners = torch.tensor([[-0.1, 0.1, 0], [0.1, -0.1, 0]]) + torch.from_numpy(CENTRE).float()
    (x0, y0), (x1, y1) = camera.project(corners)[0].tolist()
    area = (x1 - x0) * (y1 - y0)
    body = mask[:, round(y0) :]  # below the spike
    assert abs(float(body.sum()) / area - 1) < 0.02
    assert {0.0, 1.0} < set(mask.unique().tolist())  # edges in between
    # colours are not multiplied by alpha: over black they are, once
    edge = (mask[0] > 0.2) & (mask[0] < 0.8)
    edge[: round(y0) + 2] = False
    over = compose(frame.source.image(), mask, "black")
    full = frame.source.image()[:, mask[0] == 1].max()
    assert float(frame.source.image()[:, edge].amax(0).min()) > 0.25 * float(full)
    torch.testing.assert_close(over[:, edge], frame.source.image()[:, edge] * mask[:, edge])


def test_a_smaller_picture_has_its_rims_over_the_background_once(tmp_path: Path) -> None:
    """Cropped and reduced, the person's edge is what the large picture's edge averages to: no dark seam."""
    whole = protocol("az180_el+00", size=96)
    [frame] = valid.read(library(tmp_path), whole)
    large = compose(frame.source.image(), frame.source.mask(), "white")
    small = frame.source.cropped(Box(0, 0, 96), 48).read("white")
    expected = torch.nn.functional.interpolate(large[None], (48, 48), mode="bilinear", antialias=True)[0]
    torch.testing.assert_close(small.over, expected, atol=1e-5, rtol=0)
    assert small.mask is not None
    rim = (small.mask[0] > 0.2) & (small.mask[0] < 0.8)
    apart = small.image * small.mask + 1 - small.mask  # what multiplying after reducing would give
    assert float((small.over - apart)[:, rim].max()) > 0.05


def test_what_reaches_beyond_the_head_is_cut_on_a_sphere(tmp_path: Path) -> None:
    [frame] = valid.read(library(tmp_path), protocol("az180_el+00", size=256))
    mask = frame.source.mask()
    assert mask is not None
    top = torch.tensor([[0.0, valid.RADIUS, 0.0]]) + torch.from_numpy(CENTRE).float()
    row = float(frame.source.camera.project(top)[0][0, 1])
    assert row < 0  # the cut lies outside this picture, so the spike runs to its edge
    assert float(mask[0, 0].max()) > 0.5
    points = np.array([[0, 0, 0], [0.3, 0, 0], [0, 0.3, 0], [0, 0, 0.1]], np.float32)
    faces = np.array([[0, 1, 2], [1, 3, 0], [0, 3, 2]])
    cut, cut_faces, owner = valid._clip(points, faces, np.array([5, 6, 7]), np.zeros(3))
    used = cut[np.unique(cut_faces)]
    assert np.linalg.norm(used, axis=1).max() < valid.RADIUS + 1e-6
    for k, name in enumerate((5, 6, 7)):
        a, b, c = (cut[cut_faces[owner == name][:, i]] for i in range(3))
        normal = np.cross(b - a, c - a)
        whole = np.cross(*(points[faces[k, i]] - points[faces[k, 0]] for i in (1, 2)))
        assert (normal @ whole > 0).all()  # no face was turned over
    # the first face keeps the corner triangle with two sides of RADIUS
    a, b, c = (cut[cut_faces[owner == 5][:, i]] for i in range(3))
    assert np.isclose(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2, valid.RADIUS**2 / 2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"targets": ()}, "no target cameras"),
        ({"targets": ("left",)}, "'left' names no camera"),
        ({"samples": (Sample("A_2", "neutral", frames=(0,)),)}, "no head A_2"),
        ({"samples": (Sample("A_1", "smile", frames=(0,)),)}, "A_1/smile"),
        ({"samples": (Sample("A_1", "neutral", fractions=(0.5,)),)}, "one frame each"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, change: dict, says: str) -> None:
    import dataclasses

    targets = change.pop("targets", ("az180_el+00",))
    wrong = dataclasses.replace(protocol(*targets), **change)
    with pytest.raises(OmegaError, match=says) as caught:
        list(valid.read(library(tmp_path), wrong))
    assert caught.value.hint


def test_a_folder_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(OmegaError, match=r"heads\.npz is missing"):
        next(valid.read(tmp_path, protocol("az180_el+00")))


def test_the_real_heads(shared_data: Path) -> None:
    """One face of the set: skin in front, hair at the back, nothing at the corners."""
    import dataclasses

    small = dataclasses.replace(standard("valid").restricted(["White_M_1"]), size=64)
    frame = next(valid.read(shared_data / "valid_heads", small))
    assert len(frame.targets) == 23
    source, targets = standard_views(frame, small)
    cheeks, mask = source.image()[:, 30:38, 24:40].mean((1, 2)), source.mask()
    assert mask is not None and cheeks[0] > cheeks[1] > cheeks[2] > 0.2
    assert float(mask[0, :6].sum()) == 0 and 0.2 < float(mask.mean()) < 0.6
    [behind] = [v for v in targets if v.camera.id == "az180_el+00"]
    assert behind.image()[:, 20:30, 24:40].mean() < 0.75 * cheeks.mean()
    # left and right of a head are nearly mirror images
    views = {v.camera.id: v.mask() for v in targets if v.camera.id in ("az090_el+00", "az270_el+00")}
    left, right = views["az090_el+00"], views["az270_el+00"]
    assert left is not None and right is not None
    assert float((left - right.flip(2)).abs().mean()) < 0.03
