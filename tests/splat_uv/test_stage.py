"""splat-uv from folder to folder, on the toy avatar with its true mesh."""

from __future__ import annotations

import pytest
import torch

from omega_cli.avatar import codecs, layout, record
from omega_cli.console import NullReport
from omega_cli.errors import OmegaError
from omega_cli.splat_uv import stage
from omega_cli.splat_uv.config import SplatUVConfig
from omega_cli.splat_uv.features import CHANNELS

SMALL = {"uv_size": 64, "encoder": "none"}


@pytest.fixture
def meshed(toy_avatar):
    """The toy with the mesh that deform-flame would find: the true head, no offsets."""
    import toy

    still = toy.toy_params().replace(global_orient=torch.zeros(1, 3), transl=torch.zeros(1, 3))
    codecs.save_params(toy_avatar.mesh / layout.FLAME, still, head=toy.head())
    codecs.save_offsets(toy_avatar.mesh / layout.OFFSETS, torch.zeros_like(toy.head().v_template))
    return toy_avatar


def run(avatar, **settings) -> dict[str, torch.Tensor]:
    stage.run(avatar, SplatUVConfig(**{**SMALL, **settings}), report=NullReport())
    return codecs.load_tensors(avatar.uv / layout.FEATURES)


def test_writes_the_true_colours_where_it_saw_them(meshed) -> None:
    import toy

    out = run(meshed)
    C, R = len(CHANNELS), 64
    assert out["features"].shape == (C, R, R) and out["weight"].shape == (1, R, R)
    assert out["identity"].shape == (2 * C,)
    names = (layout.COVERAGE, layout.FEATURES_PCA, layout.UV_RGB, layout.STAGE)
    assert all((meshed.uv / name).is_file() for name in names)
    model = toy.head()
    face_index, barycentric = stage_raster(model, R)
    resting = model.identity(toy.toy_params().betas)
    points = (resting[model.faces[face_index.clamp_min(0)]] * barycentric[..., None]).sum(-2)
    truth = toy.true_color(points).permute(2, 0, 1)
    skin = model.regions["scalp"] | model.regions["face"]
    sure = (face_index >= 0) & skin[model.faces[face_index.clamp_min(0)]].all(-1) & (out["weight"][0] > 0.3)
    assert sure.float().mean() > 0.25
    error = (out["features"][:3] - truth)[:, sure].abs()
    assert error.median() < 0.03 and error.quantile(0.95) < 0.15  # views of 64 px, a texel of 5 mm


def stage_raster(model, size: int):
    from omega_cli.geometry.uvmap import rasterize_uv

    return rasterize_uv(model.uvs, model.uv_faces, size)


def test_each_switch_of_table_3_changes_the_map_and_the_record(meshed) -> None:
    full = run(meshed)
    key = record.read_stage(meshed.uv)["key"]
    for switch in (
        {"single_view": True},
        {"splat": "nearest"},
        {"hierarchical": False},
        {"visibility_fusion": False},
    ):
        changed = run(meshed, **switch)
        assert (changed["features"] - full["features"]).abs().max() > 0.01, switch
        assert record.read_stage(meshed.uv)["key"] != key


def test_the_same_run_gives_the_same_file(meshed) -> None:
    run(meshed)
    first = record.read_stage(meshed.uv)
    run(meshed)
    assert record.read_stage(meshed.uv)["outputs"] == first["outputs"]
    assert record.is_fresh(meshed, meshed.uv)


def test_kept_views_fuse_to_the_same_map(meshed) -> None:
    from omega_cli.splat_uv.config import VIEW_WEIGHTS
    from omega_cli.splat_uv.fusion import fuse_views
    from omega_cli.splat_uv.pyramid import UVPyramid

    out = run(meshed, keep_views=True)
    pyramids, levels = [], range(SplatUVConfig().levels)
    for azimuth in layout.AZIMUTHS:
        view = codecs.load_tensors(meshed.uv / layout.view_features(azimuth))
        parts = ([view[f"{name}_{level}"] for level in levels] for name in ("sum", "density", "confidence"))
        pyramids.append(UVPyramid(*parts))
    weights = [VIEW_WEIGHTS[azimuth] for azimuth in layout.AZIMUTHS]
    power = SplatUVConfig().confidence_power
    fused, weight = fuse_views(pyramids, weights, confidence_power=power)
    assert torch.allclose(fused, out["features"], atol=1e-5) and torch.allclose(
        weight, out["weight"], atol=1e-5
    )


@pytest.mark.parametrize("missing", ["views", "mesh"])
def test_a_missing_input_names_the_command_that_makes_it(meshed, missing: str) -> None:
    path = {"views": meshed.views / layout.view_rgb("090"), "mesh": meshed.mesh / layout.OFFSETS}[missing]
    path.unlink()
    with pytest.raises(OmegaError) as caught:
        run(meshed)
    assert path.name in caught.value.message
    assert {"views": "mv-diffuse", "mesh": "deform-flame"}[missing] in caught.value.hint
    assert not meshed.uv.exists()


def test_a_mask_of_another_size_is_refused(meshed) -> None:
    codecs.save_image(meshed.views / layout.view_mask("180"), torch.ones(32, 32))
    with pytest.raises(OmegaError, match="differ in size"):
        run(meshed)
    assert not meshed.uv.exists()


def test_without_a_source_folder_the_users_own_views_suffice(meshed) -> None:
    for path in meshed.source.iterdir():
        path.unlink()
    assert (run(meshed)["weight"] > 0.3).float().mean() > 0.3


@pytest.mark.parametrize(
    "wrong", [{"uv_size": 100}, {"levels": 0}, {"confidence_power": 0.0}, {"uv_size": 8}]
)
def test_nonsense_is_refused_before_anything_is_read(wrong) -> None:
    with pytest.raises(ValueError):
        SplatUVConfig(**wrong)
