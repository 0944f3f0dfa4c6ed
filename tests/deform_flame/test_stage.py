"""deform-flame on the toy avatar: every file it promises, and errors a person can act on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from omega_cli.avatar import codecs, layout, record
from omega_cli.avatar.layout import Avatar
from omega_cli.console import NullReport
from omega_cli.deform_flame import stage
from omega_cli.deform_flame.config import DeformFlameConfig
from omega_cli.errors import OmegaError
from omega_cli.head.assets import load_head

QUICK = DeformFlameConfig(iterations=4, map_size=64)


def run(avatar: Avatar, config: DeformFlameConfig = QUICK) -> Path:
    return stage.run(avatar, config, report=NullReport())


def test_mesh_folder_holds_what_it_promises_and_agrees_with_itself(toy_avatar: Avatar) -> None:
    folder = run(toy_avatar)
    model = load_head()
    offsets = codecs.load_offsets(folder / layout.OFFSETS, len(model.v_template))
    params = codecs.load_params(folder / layout.FLAME)
    photo = codecs.load_params(toy_avatar.source / layout.FLAME)
    assert torch.equal(params.betas, photo.betas) and torch.equal(params.expression, photo.expression)
    assert not params.global_orient.any() and not params.neck_pose.any() and not params.transl.any()
    canonical = codecs.load_obj_vertices(folder / layout.CANONICAL_OBJ)
    posed = codecs.load_obj_vertices(folder / layout.POSED_OBJ)
    assert torch.allclose(canonical, model.identity(params.betas, offsets), atol=1e-6)
    assert torch.allclose(posed, model.forward(params, offsets).vertices[0], atol=1e-6)
    assert (folder / layout.POSED_OBJ).read_text().count("\nvt ") == len(model.uvs)
    lines = [json.loads(line) for line in (folder / layout.FIT_LOG).read_text().splitlines()]
    assert len(lines) == 4 and all({"nml", "lmk", "sym", "lap", "sil", "total"} <= set(x) for x in lines)
    for azimuth in layout.AZIMUTHS:
        assert codecs.load_image(folder / layout.overlay(azimuth)).shape == (3, 64, 64)
    written = record.read_stage(folder)
    assert written["metrics"]["face_rms_mm"] < 0.3
    assert record.status(toy_avatar, folder).state == "fresh"


def test_a_mesh_of_ones_own_gives_its_offsets_back(toy_avatar: Avatar, tmp_path: Path) -> None:
    model = load_head()
    canonical = model.identity(codecs.load_params(toy_avatar.source / layout.FLAME).betas)
    mine = torch.where(model.regions["scalp"][:, None], canonical * 1.1, canonical)
    path = tmp_path / "mine.obj"
    codecs.save_obj(path, mine, model.faces)
    folder = run(toy_avatar, DeformFlameConfig(mesh=str(path)))
    offsets = codecs.load_offsets(folder / layout.OFFSETS)
    assert torch.allclose(offsets, mine - canonical, atol=1e-6)
    assert (folder / layout.FIT_LOG).read_text() == ""
    assert (folder / layout.overlay("000")).exists()
    assert str(path) in json.dumps(record.read_stage(folder)["params"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v[:-1], "vertices, the head"),
        (lambda v: v * 1000, "away from the fitted head"),
        (None, "is not there"),
    ],
)
def test_a_mesh_that_is_no_head_is_refused(toy_avatar: Avatar, tmp_path: Path, change, words: str) -> None:
    path = tmp_path / "mine.obj"
    if change is not None:
        vertices = change(load_head().v_template)
        path.write_text("".join("v {} {} {}\n".format(*v) for v in vertices.tolist()))
    with pytest.raises(OmegaError, match=words):
        run(toy_avatar, DeformFlameConfig(mesh=str(path)))
    assert not toy_avatar.mesh.exists()


def test_missing_and_misshapen_views_are_named(toy_avatar: Avatar) -> None:
    mask = toy_avatar.views / layout.view_mask("270")
    codecs.save_image(mask, torch.zeros(1, 32, 48))
    with pytest.raises(OmegaError, match=r"270.*square"):
        run(toy_avatar)
    mask.unlink()
    with pytest.raises(OmegaError, match=r"270\.png is missing") as caught:
        run(toy_avatar)
    assert "omega mv-diffuse" in caught.value.hint
    assert not toy_avatar.mesh.exists()


@pytest.mark.parametrize(
    "wrong",
    [{"iterations": 0}, {"iterations": 151}, {"lambda_lap": -1.0}, {"max_offset": 0.0}, {"map_size": 8}],
)
def test_nonsense_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DeformFlameConfig(**wrong)
