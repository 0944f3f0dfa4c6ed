"""Shapes of another head model: a made-up one that is the open head itself, cut finer and moved; the real
one, if here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import KDTree
from torch import Tensor
from trimesh.remesh import subdivide

from omega_cli.data.studio import ict_fit, ict_pack, shapes, traits
from omega_cli.data.studio.atlas import make_atlas
from omega_cli.data.studio.people import Sources, sample_person
from omega_cli.data.studio.shapes import BLINKS, Shapes
from omega_cli.errors import OmegaError
from omega_cli.geometry.rotation import axis_angle_to_matrix
from omega_cli.geometry.similarity import similarity
from omega_cli.head.assets import load_head

MODEL = load_head()
CM = 100.0
TURN = axis_angle_to_matrix(torch.tensor([0.1, -0.05, 0.08]))
SHIFT = torch.tensor([1.0, -2.0, 3.0])  # cm


def base_and_modes() -> tuple[Tensor, Tensor]:
    """What is to be found: a head [V, 3] and three modes [3, V, 3] of it, m; the last antisymmetric."""
    rng = torch.Generator().manual_seed(4)
    signs = ict_fit.mirror_signs(MODEL, MODEL.shapedirs.permute(2, 0, 1))
    base = MODEL.identity(torch.randn(MODEL.S, generator=rng) * (signs > 0.9))
    even, odd = torch.nonzero(signs > 0.9)[:, 0], torch.nonzero(signs < -0.9)[:, 0]
    picked = [even[:6], even[6:16], odd[:6]]
    directions = [MODEL.shapedirs[..., p] @ torch.randn(len(p), generator=rng) for p in picked]
    return base, torch.stack(directions)


def write_model(root: Path) -> Path:
    """The same in the layout of the real folder: four times the triangles, shuffled, in cm, elsewhere."""
    base, modes = base_and_modes()
    whole = torch.cat([base[None], modes]).permute(1, 0, 2).flatten(1)
    pieces, faces, materials, count = [], [], [], 0
    corners = MODEL.faces
    skin, inside = ict_fit.outer_skin(MODEL)[corners].all(1), MODEL.regions["mouth_inside"][corners].all(1)
    behind = base[corners].mean(1)[:, 2] < 0.0
    parts = {
        "M_Face": skin & ~behind,
        "M_BackHead": (skin & behind) | inside,
        "M_ScleraLeft": MODEL.regions["left_eye"][corners].all(1),
        "M_ScleraRight": MODEL.regions["right_eye"][corners].all(1),
    }
    for number, own in enumerate(parts.values()):
        fine, triangles = subdivide(whole.numpy(), corners[own].numpy())
        pieces.append(fine)
        faces.append(triangles + count)
        materials.append(np.full(len(triangles), number))
        count += len(fine)
    vertices, idx = np.unique(np.concatenate(pieces).astype(np.float32), axis=0, return_inverse=True)
    values = torch.from_numpy(vertices).view(len(vertices), 4, 3)
    placed = CM * values @ TURN.T
    triangles = idx[np.concatenate(faces)]
    marks = MODEL.landmark_points(base, "ibug68")
    np.savez(
        root / ict_pack.MODEL,
        neutral=(placed[:, 0] + SHIFT).numpy(),
        faces=np.concatenate([triangles, np.full_like(triangles[:, :1], -1)], 1).astype(np.int32),
        face_material=np.concatenate(materials).astype(np.uint8),
        material_names=list(parts),
        identity_modes=placed[:, 1:].permute(1, 0, 2).numpy().astype(np.float32),
    )
    nearest = KDTree(vertices[:, :3]).query(marks.numpy())[1]
    (root / ict_pack.INDICES).write_text(json.dumps({"idx_to_landmark_verts": nearest.tolist()}))
    return root


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ict")
    ict_pack.pack(write_model(folder), folder / "ict.npz")
    return folder / "ict.npz"


@pytest.fixture(scope="module")
def loaded(pack: Path) -> Shapes:
    return shapes.load(pack, MODEL)


def test_a_known_head_and_its_modes_come_back(loaded: Shapes, pack: Path) -> None:
    """Modes to 0.5 mm where the skin shows (of 7 to 9 mm), the head but for sliding along its own surface."""
    base, modes = base_and_modes()
    skin = ict_fit.outer_skin(MODEL)
    there = similarity(base[skin], loaded.mean[skin])
    assert (there(base) - loaded.mean)[skin].norm(dim=1).median() < 0.0015
    with np.load(pack) as z:
        mean, most, _ = z["fit_mm"]
        assert z["trusted"] > 0.95 and mean < 0.05 and most < 0.2
    wanted = there.scale * modes @ there.R.T
    wanted = wanted - wanted[:, MODEL.regions["ears"]].mean(1, keepdim=True)
    gap = (loaded.modes - wanted).norm(dim=2)
    assert wanted.norm(dim=2).amax(1)[:2].min() > 0.006
    assert gap[:, skin].quantile(0.99, dim=1).max() < 0.0006
    for part, most in {"eyes": 0.0003, "lashes": 0.0004, "teeth": 0.0015, "tongue": 0.0015}.items():
        assert gap[:, MODEL.regions[part]].mean() < most, part
    assert (ict_fit.mirror_signs(MODEL, loaded.modes) - torch.tensor([1.0, 1.0, -1.0])).abs().max() < 1e-5


def test_betas_and_offsets_are_the_head(loaded: Shapes) -> None:
    """What the studio keeps of a person poses as the shape itself, whose betas carry most of it."""
    betas, offsets = loaded.identity(torch.tensor([1.0, -0.5, 0.5]))
    whole = loaded.mean + torch.einsum("k,kvc->vc", torch.tensor([1.0, -0.5, 0.5]), loaded.modes)
    assert betas.shape == (MODEL.S,) and offsets.shape == MODEL.v_template.shape
    far = ~(loaded.lids | MODEL.regions["eyes"] | MODEL.regions["lashes"])
    far &= (MODEL.v_template - MODEL.v_template[loaded.lids].mean(0)).norm(dim=1) > 0.08  # no lids
    assert far.sum() > 1000
    assert ((MODEL.identity(betas, offsets) - whole)[far]).abs().max() < 1e-6
    rest = (whole - MODEL.v_template)[far].norm(dim=1)
    assert offsets[far].norm(dim=1).mean() < 0.5 * rest.mean()


def test_lids_clear_the_eyeballs_however_far_they_close(loaded: Shapes) -> None:
    betas, offsets = loaded.identity(torch.tensor([2.0, 2.0, 2.0]))
    shaped = MODEL.identity(betas, offsets)
    closing = MODEL.exprdirs[
        ..., [MODEL.expression_names.index(f"eyeBlink{s}") for s in ("Left", "Right")]
    ].sum(-1)
    for joint, name in ((3, "left_eye"), (4, "right_eye")):
        ball = shaped[MODEL.regions[name]]
        centre = MODEL.J_regressor[joint] @ shaped
        radius = (ball - centre).norm(dim=1).amax()
        near = loaded.lids & ((shaped - centre).norm(dim=1) < shapes.NEAR)
        assert near.sum() > 20
        for closed in BLINKS:
            gap = (shaped + closed * closing - centre).norm(dim=1)[near] - radius
            assert gap.min() > -2e-5, (name, closed)


def test_half_of_the_people_take_the_packs_shape(loaded: Shapes) -> None:
    """The others, and everything but the shape, are as without a pack."""
    plain = Sources(MODEL, make_atlas(MODEL, 64))
    shaped = replace(plain, shapes=loaded)
    people = [(sample_person(seed, plain), sample_person(seed, shaped)) for seed in range(8)]
    changed = [not torch.equal(a.canonical, b.canonical) for a, b in people]
    assert 1 <= sum(changed) <= 7
    assert all(repr(a.look) == repr(b.look) for a, b in people)
    again = sample_person(changed.index(True), shaped)
    assert torch.equal(again.canonical, people[changed.index(True)][1].canonical)
    person = people[changed.index(True)][1]
    assert torch.isfinite(person.canonical).all()


def test_a_drawn_face_reads_as_wanted() -> None:
    """The shortest way: what does not read stays, and the reading is the wanted one exactly."""
    generator = torch.Generator().manual_seed(1)
    modes = 0.002 * MODEL.shapedirs[..., :12].permute(2, 0, 1)
    none = torch.zeros(0, dtype=torch.long)
    pack = Shapes(
        MODEL, MODEL.v_template, modes, torch.ones(12), torch.zeros(MODEL.S), 0.002 * torch.eye(12, MODEL.S),
        torch.zeros(len(MODEL.v_template), dtype=torch.bool), (none, none[:, None], torch.zeros(0, 1)),
    )  # fmt: skip
    drawn = torch.randn(12, generator=generator)
    light, heavy = pack.fitted(drawn, (1.0, 0.5, -0.5)), pack.fitted(drawn, (1.0, 0.5, 0.5))
    assert pack._reading is not None
    reads, _ = pack._reading
    step = (reads @ (heavy - light)).tolist()
    assert step[0] == pytest.approx(0, abs=1e-4) and step[1] == pytest.approx(1.0 / traits.SD[2], rel=1e-4)
    null = drawn - torch.linalg.pinv(reads) @ (reads @ drawn)
    assert torch.allclose(light - torch.linalg.pinv(reads) @ (reads @ light), null, atol=1e-5)


def test_packs_of_other_heads_and_other_files_are_refused(pack: Path, tmp_path: Path) -> None:
    with pytest.raises(OmegaError, match="made for another head"):
        shapes.load(pack, replace(MODEL, sha256="0" * 64))
    np.savez(tmp_path / "other.npz", mean=np.zeros(3))
    with pytest.raises(OmegaError, match="is no pack of shapes"):
        shapes.load(tmp_path / "other.npz", MODEL)
    with pytest.raises(OmegaError, match="ICT's landmarks"):
        ict_pack.pack(tmp_path, tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


def test_the_real_model_lies_under_the_skin(shared_data: Path, tmp_path: Path) -> None:
    """ICT's own head: the open head's skin on it, and 100 identities that no eyeball shows through."""
    folder = shared_data / "ict_facekit"
    if not folder.is_dir():
        pytest.skip("the shared test data has no ict_facekit")
    fit = ict_pack.pack(folder, tmp_path / "ict.npz")
    assert fit["trusted"] > 0.95 and fit["mean"] < 0.05 and fit["p95"] < 0.15
    people = shapes.load(tmp_path / "ict.npz", MODEL)
    assert len(people.std) == 100 and people.modes.norm(dim=2).amax() < 0.03
    widths = []
    for seed in range(20):
        betas, offsets = people.draw((0.5, 0.2, 0.0), torch.Generator().manual_seed(seed))
        head = MODEL.identity(betas, offsets)[ict_fit.outer_skin(MODEL)]
        widths.append(float(head[:, 0].max() - head[:, 0].min()))
    assert 0.002 < float(np.std(widths)) < 0.03
