"""Blended people: a small library of ball heads with known landmarks; and the real heads, if here."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from omega_cli.avatar.layout import PARSING_LABELS
from omega_cli.data.studio import blend_landmarks, blend_parts
from omega_cli.data.studio.blend_pack import pack
from omega_cli.data.studio.blends import Blends, draw_blend, load, plain_blend, sample_blend
from omega_cli.data.studio.light import studio_light
from omega_cli.errors import OmegaError
from omega_cli.geometry.camera import orthographic, perspective
from omega_cli.head.assets import load_head
from omega_cli.mv_diffuse.views import canonical_cameras
from tests.ball import make_ball
from tests.conftest import weight_file

NAMES = ("A_1", "B_2", "C_3", "D_4")
SHIFT = torch.tensor([0.01, 1.6, 0.05])  # of the set's world against the head's frame
SCALE = (1.0, 1.1, 0.95, 1.05)  # of each head
RADII = torch.tensor([0.085, 0.13, 0.11])
SHAPES = ("MouthOpen_h", "RsmileClose_h", "LsmileClose_h")
TONES = ((230, 180, 150), (190, 140, 110), (120, 80, 60), (0, 255, 0))


def points() -> Tensor:
    """[68, 3] m: the open head's landmarks, pushed out to the ball."""
    model = load_head()
    raw = model.landmark_points(model.v_template, "ibug68")
    return raw / (raw / RADII).norm(dim=1, keepdim=True)


def library(root: Path) -> Path:
    """Four balls of different size and colour: hair above and behind, a shirt below; the third is wigged."""
    (root / "tex").mkdir()
    ball, eye = make_ball(48, 96, tuple(RADII.tolist())), make_ball(6, 8, (0.012, 0.012, 0.012))
    heads, parts, joints = [], {}, []
    for name, scale in zip(NAMES, SCALE, strict=True):
        heads.append((ball.vertices * scale + SHIFT).numpy())
        joints.append((SHIFT - torch.tensor([0.0, 0.03, 0.0])).numpy())
        for kind, x in (("h_L_eye", 0.03), ("h_R_eye", -0.03)):
            at = torch.tensor([x, 0.03, 0.09]) * scale + SHIFT
            parts |= _part(f"{name}/{kind}", eye.vertices + at, eye.uv_faces, 0.05 * eye.uvs)
    front = ball.vertices[ball.uv_faces].mean(1)[:, 2] > 0.05
    parts |= _part("C_3/h_wig", ball.vertices * 1.1 + SHIFT, ball.uv_faces[~front], ball.uvs)
    np.savez(root / "parts.npz", **parts)
    np.savez(
        root / "heads.npz", names=NAMES, verts=np.stack(heads).astype(np.float32),
        faces=ball.uv_faces.numpy().astype(np.int32), uv=ball.uvs.numpy(),
        joint_names=["Head"], joints=np.stack(joints)[:, None].astype(np.float32),
    )  # fmt: skip
    low = torch.nonzero((ball.vertices[:, 1] < -0.04) & (ball.vertices[:, 2] > 0.03))[:, 0]
    deltas = np.zeros((len(NAMES), len(SHAPES), len(low), 3), np.int16)
    deltas[:, 0, :, 1], deltas[:, 1:, :, 0] = -80, 20
    np.savez(root / "expressions.npz", names=SHAPES, vertex_ids=low.numpy(), deltas_0p1mm=deltas)
    v, u = np.mgrid[:128, :128] / 128
    hair, shirt = (v < 0.3) | ((abs(u - 0.5) > 0.22) & (v < 0.55)), v > 0.9
    for name, tone in zip(NAMES, TONES, strict=True):
        skin = np.broadcast_to(np.array(tone, np.uint8), (128, 128, 3)).copy()
        skin[hair & (name != "C_3")], skin[shirt] = (20, 15, 12), (20, 40, 200)
        Image.fromarray(skin).save(root / f"tex/{name}_skin.jpg", quality=98, subsampling=0)
    Image.new("RGB", (16, 16), (60, 40, 30)).save(root / "tex/C_3_wig.jpg")
    return root


def _part(stem: str, vertices: Tensor, faces: Tensor, uv: Tensor) -> dict[str, np.ndarray]:
    return {
        f"{stem}/v": vertices.numpy().astype(np.float32),
        f"{stem}/f": faces.numpy().astype(np.uint16),
        f"{stem}/uv": uv.numpy().astype(np.float32),
    }


def knower():
    """A landmarker that knows the balls, and in which order the packer shows them."""
    calls = iter([(scale, a) for scale in SCALE for a in blend_landmarks.AZIMUTHS])

    def detect(rgb: np.ndarray) -> np.ndarray:
        scale, azimuth = next(calls)
        own = points() * scale
        own[(own[:, 1] < -0.04 * scale) & (own[:, 2] > 0.03 * scale), 1] -= 0.004  # half of MouthOpen_h
        camera = orthographic(azimuth, blend_landmarks.SIZE, blend_landmarks.HALF_EXTENT)
        assert rgb.shape == (camera.height, camera.width, 3) and rgb.std() > 5
        return camera.project(own)[0].numpy()

    return detect


@pytest.fixture(scope="module")
def blends(tmp_path_factory: pytest.TempPathFactory) -> Blends:
    folder = tmp_path_factory.mktemp("valid")
    pack(library(folder), folder / "pack.npz", detect=knower())
    return load(folder / "pack.npz")


def test_heads_come_into_the_open_heads_frame_at_one_size(blends: Blends) -> None:
    model = load_head()
    goal = model.landmark_points(model.v_template, "ibug68")[17:]
    assert blends.names == NAMES and set(blends.wigs) == {"C_3"}
    for name in NAMES:
        person = plain_blend(name, blends)
        found = person.landmarks(person.vertices)
        assert float((found[17:] - goal).norm(dim=1).mean()) < 0.012  # the ball is no face
    # the same points of every ball are the landmarks, and all balls are one after scaling
    spread = blends.vertices[:, : blends.head_count].std(0).amax()
    assert float(spread) < 0.0015
    first = plain_blend("A_1", blends)
    truth = points()[17:]
    mine = first.landmarks(first.vertices)[17:]
    size = (mine - mine.mean(0)).norm() / (truth - truth.mean(0)).norm()
    away = (mine - mine.mean(0)) / size - (truth - truth.mean(0))
    assert float(away.norm(dim=1).mean()) < 0.002


def test_a_seed_is_one_person_and_another_seed_another(blends: Blends) -> None:
    a, again, b = sample_blend(3, blends), sample_blend(3, blends), sample_blend(4, blends)
    for f in fields(a):
        value, other = getattr(a, f.name), getattr(again, f.name)
        assert torch.equal(value, other) if isinstance(value, Tensor) else value == other, f.name
    n = len(blends.uv)
    assert float((a.vertices[:n] - b.vertices[:n]).norm(dim=1).mean()) > 1e-3
    assert float((a.skin - b.skin).abs().mean()) > 1e-3


def test_held_out_heads_give_nothing(blends: Blends) -> None:
    """What they hold is spoilt, and nobody changes."""
    spoilt = {}
    for name in ("vertices", "hair", "dress", "skin_colour", "skins", "expressions", "landmark_weights"):
        spoilt[name] = getattr(blends, name).clone()
        spoilt[name][3] = 77
    other = replace(blends, **spoilt)
    used = set()
    for seed in range(12):
        a, b = (sample_blend(seed, source, ["D_4", "Z_9"]) for source in (blends, other))
        used |= a.sources
        for f in fields(a):
            value = getattr(a, f.name)
            if isinstance(value, Tensor):
                assert torch.equal(value, getattr(b, f.name)), f.name
    assert used == {"A_1", "B_2", "C_3"}
    assert "D_4" in set().union(*(sample_blend(seed, blends).sources for seed in range(12)))


@pytest.mark.parametrize("seed", range(4))
def test_a_sample_is_true_to_itself(blends: Blends, seed: int) -> None:
    person = sample_blend(seed, blends)
    cameras = [*canonical_cameras(64, 0.21), perspective(20, 64, 0.2)]
    with torch.no_grad():
        sample = draw_blend(person, None, cameras, studio_light(), 64)
    covered = sample.alpha[:, 0] > 0
    assert 0.15 < float(covered.float().mean()) < 0.6
    # a label is the commonest of a pixel's samples
    assert bool((covered | (sample.labels == 0)).all())
    assert bool((sample.labels[sample.alpha[:, 0] > 0.5] > 0).all())
    assert torch.equal(covered, torch.isfinite(sample.depth[:, 0]))
    outside = ~covered[:, None].expand(-1, 3, -1, -1)
    assert not sample.rgb[outside].any() and not sample.normal[outside].any()
    length = sample.normal.norm(dim=1)[covered]
    torch.testing.assert_close(length, torch.ones_like(length), atol=1e-4, rtol=0)
    for k, camera in enumerate(cameras):
        torch.testing.assert_close(camera.project(sample.landmarks_3d)[0], sample.landmarks[k])
        # normals look at the camera, and on a ball away from its middle
        at = torch.nonzero(sample.alpha[k, 0] == 1)
        pixel = at.flip(1) + 0.5
        point = camera.unproject(pixel, sample.depth[k, 0][at[:, 0], at[:, 1]])
        normal = sample.normal[k][:, at[:, 0], at[:, 1]].T
        assert float(((normal * camera.view_directions(point)).sum(1) > -0.05).float().mean()) > 0.99
        out = torch.nn.functional.normalize(point, dim=1)
        assert float((normal * out).sum(1).mean()) > 0.7


def test_labels_of_a_plain_head(blends: Blends) -> None:
    person = plain_blend("A_1", blends)
    cameras = [orthographic(a, 96, 0.16) for a in (0.0, 180.0)]
    labels = draw_blend(person, None, cameras, studio_light(), 96).labels
    share = {n: (labels == i).float().mean((1, 2)) for i, n in enumerate(PARSING_LABELS)}
    assert share["hair"][1] > 3 * share["hair"][0] > 0
    assert share["skin"][0] > share["skin"][1]
    assert share["nose"][0] > 0 and share["cloth"][0] > 0
    assert float(share["nose"][1]) == 0


def test_expressions_move_the_mouth(blends: Blends) -> None:
    person = plain_blend("B_2", blends)
    rest = torch.zeros(len(SHAPES))
    torch.testing.assert_close(person.posed(None), person.posed(rest))
    opened = rest.clone()
    opened[0] = 1
    moved = person.landmarks(person.posed(opened)) - person.landmarks(person.posed(rest))
    size = float(torch.linalg.det(blends.turns[1]) ** (1 / 3))
    assert float(moved[8, 1]) == pytest.approx(-0.008 * size, abs=5e-4)
    assert float(moved[36:48].abs().max()) < 1e-6


def test_a_cut_arm_is_closed_to_the_outside() -> None:
    turn = torch.linspace(0, 2 * torch.pi, 17)[:-1]
    ring = torch.stack([torch.zeros(16), 0.05 * turn.cos(), 0.05 * turn.sin()], 1)
    ring = torch.cat([ring + torch.tensor([x, 0.0, 0.0]) for x in (0.0, 0.2)])
    i, j = torch.arange(16), (torch.arange(16) + 1) % 16
    faces = torch.cat([torch.stack([i, j, i + 16], 1), torch.stack([j, j + 16, i + 16], 1)])
    assert len(blend_parts.rims(ring, faces)) == 2
    base, closed, uv = blend_parts.arm_caps(ring[None], faces, torch.rand(32, 2), 32)
    assert base.shape[1] == len(uv) > 32
    [left] = blend_parts.rims(base[0], closed)  # the inner end stays open
    assert float(base[0, left, 0].abs().max()) < 1e-6
    a, b, c = base[0][closed[len(faces) :]].unbind(1)
    out = torch.linalg.cross(b - a, c - a)
    middle = (a + b + c) / 3 - torch.tensor([0.2, 0.0, 0.0])
    side = torch.linalg.cross(*(ring[faces[0, k]] - ring[faces[0, 0]] for k in (1, 2)))
    sign = (side * ring[faces[0]].mean(0) * torch.tensor([0.0, 1.0, 1.0])).sum().sign()
    facing = (out * middle).sum(1) * sign
    assert float((facing[out.norm(dim=1) > 1e-9] > 0).float().mean()) > 0.95


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(OmegaError, match=r"heads\.npz is missing"):
        pack(tmp_path, tmp_path / "out.npz")
    with pytest.raises(OmegaError, match="no head Z_9"):
        pack(library(tmp_path), tmp_path / "out.npz", ["Z_9"])
    with pytest.raises(OmegaError, match="is missing"):
        load(tmp_path / "none.npz")


def test_the_real_heads(shared_data: Path, tmp_path: Path) -> None:
    weight_file("face_landmarker")
    names = ["White_M_1", "Asian_F_1", "White_F_1"]
    pack(shared_data / "valid_heads", tmp_path / "pack.npz", names)
    blends = load(tmp_path / "pack.npz")
    marks = plain_blend("White_M_1", blends)
    marks = marks.landmarks(marks.vertices)
    model = load_head()
    goal = model.landmark_points(model.v_template, "ibug68")
    assert float((marks - goal)[17:].norm(dim=1).mean()) < 0.008
    for seed in range(3):
        person = sample_blend(seed, blends, ["White_F_1"])
        assert "White_F_1" not in person.sources
        sample = draw_blend(person, None, canonical_cameras(96, 0.21), studio_light(), 96)
        share = {n: (sample.labels == i).float().mean((1, 2)) for i, n in enumerate(PARSING_LABELS)}
        assert share["skin"][0] > 0.03 and share["hair"][3] > 0.04 and share["cloth"][0] > 0.1
        assert share["eyes"][0] > 0 and float(share["nose"][3]) == 0
        # at ±90° no arm is an open tube: the silhouette of the chest has no holes
        for row in sample.alpha[2, 0, -8:]:
            run = torch.nonzero(row > 0.5)[:, 0]
            assert float(row[run[0] : run[-1]].min()) > 0.5
