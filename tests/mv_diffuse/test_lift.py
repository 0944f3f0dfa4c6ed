"""The lift against a head whose every side is known: the toy of tests/toy.py, half a metre of truth."""

from pathlib import Path

import pytest
import torch

from omega_cli.avatar import codecs, layout, record
from omega_cli.console import NullReport
from omega_cli.errors import OmegaError
from omega_cli.geometry.raster import interpolate, rasterize
from omega_cli.head.frame import head_frame
from omega_cli.mv_diffuse import stage
from omega_cli.mv_diffuse.config import MvDiffuseConfig
from omega_cli.mv_diffuse.views import canonical_cameras
from tests import toy

CONFIG = MvDiffuseConfig(source="lift", size=96, texture_size=192)


@pytest.fixture(scope="module")
def avatar(tmp_path_factory):
    made = toy.make_toy_avatar(tmp_path_factory.mktemp("lift") / "toy")
    stage.run(made, CONFIG, report=NullReport(), force=True)
    return made


def truth(view: str) -> toy.Picture:
    model, params = toy.head(), toy.toy_params()
    camera = next(c for c in canonical_cameras(CONFIG.size, CONFIG.half_extent) if c.id == view)
    still = params.replace(global_orient=torch.zeros(1, 3), transl=torch.zeros(1, 3))
    return toy.picture(model(still).vertices[0], model.identity(params.betas), camera)


def facial_skin(view: str) -> torch.Tensor:  # [H, W] bool
    """Pixels of the view well inside the face's skin: no eye, no mouth, nothing slanted."""
    model, params = toy.head(), toy.toy_params()
    camera = next(c for c in canonical_cameras(CONFIG.size, CONFIG.half_extent) if c.id == view)
    still = params.replace(global_orient=torch.zeros(1, 3), transl=torch.zeros(1, 3))
    vertices = model(still).vertices[0]
    plain = model.regions["face"] & ~model.regions["lips"] & ~model.regions["eye_region"]
    seen = interpolate(rasterize(vertices, model.faces, camera), model.faces, plain.float()[:, None])[..., 0]
    return (seen > 0.999) & (truth(view).normal[2] > 0.6)


def psnr(made: torch.Tensor, wanted: torch.Tensor, where: torch.Tensor) -> float:
    return float(-10 * torch.log10(((made - wanted)[:, where] ** 2).mean()))


def test_head_frame_moves_the_camera_instead_of_the_head():
    model, camera = toy.head(), toy.source_camera()
    params = toy.toy_params().replace(neck_pose=torch.tensor([[0.1, -0.2, 0.05]]))
    rest, moved = head_frame(model, params, camera)
    assert rest.global_orient.abs().max() == 0 and rest.neck_pose.abs().max() == 0
    assert torch.equal(rest.expression, params.expression)
    face = model.regions["nose"]  # skinned to the skull alone
    before, _ = camera.project(model(params).vertices[0][face])
    after, _ = moved.project(model(rest).vertices[0][face])
    assert torch.allclose(before, after, atol=0.02)


def test_front_view_is_the_photo_turned_to_the_front(avatar):
    """A smooth colouring photographed at 8 degrees comes back on the front of the face, sharply."""
    made = codecs.load_image(avatar.views / layout.view_rgb("000"), 3)
    assert facial_skin("000").sum() > 200
    assert psnr(made, truth("000").rgb, facial_skin("000")) > 40  # 45.3 measured


def test_a_bald_outline_is_met_and_normals_are_the_heads_own(avatar):
    for view in ("000", "045", "180"):
        wanted = truth(view)
        mask = codecs.load_image(avatar.views / layout.view_mask(view), 1)[0]
        union = torch.maximum(mask, wanted.alpha).sum()
        assert float(torch.minimum(mask, wanted.alpha).sum() / union) > 0.95
        normal = codecs.load_image(avatar.views / layout.view_normal(view), 3) * 2 - 1
        inner = wanted.alpha > 0.99
        cosine = (torch.nn.functional.normalize(normal, dim=0) * wanted.normal).sum(0)[inner]
        assert float(torch.rad2deg(cosine.clamp(-1, 1).arccos()).mean()) < 8


def test_the_mirror_serves_the_side_that_the_photo_does_not_show(tmp_path):
    """The toy's red channel is not symmetric, green and blue are: they come back on the far cheek."""
    made = toy.make_toy_avatar(tmp_path / "toy")
    errors = {}
    for mirror in (True, False):
        config = MvDiffuseConfig(source="lift", size=96, texture_size=192, mirror=mirror)
        stage.run(made, config, report=NullReport(), force=True)
        wanted = truth("270")
        cheek = (wanted.normal[2] > 0.1) & (wanted.labels == toy.SKIN) & (wanted.alpha > 0.99)
        rgb = codecs.load_image(made.views / layout.view_rgb("270"), 3)
        errors[mirror] = float((rgb - wanted.rgb)[1:, cheek].abs().mean())
    assert errors[True] < errors[False]


def test_the_same_seed_gives_the_same_files(avatar, tmp_path):
    again = toy.make_toy_avatar(tmp_path / "toy")
    stage.run(again, CONFIG, report=NullReport(), force=True)
    outputs = [record.read_stage(a.views)["outputs"] for a in (avatar, again)]
    assert outputs[0] == outputs[1]


def test_own_views_are_kept_byte_for_byte_and_the_rest_is_lifted(avatar, tmp_path):
    made = toy.make_toy_avatar(tmp_path / "toy")
    mine = tmp_path / "mine"
    for azimuth in layout.AZIMUTHS:
        codecs.save_image(mine / layout.view_rgb(azimuth), torch.rand(3, CONFIG.size, CONFIG.size))
    stage.run(made, CONFIG, report=NullReport(), force=True, views=mine)
    for azimuth in layout.AZIMUTHS:
        assert (made.views / layout.view_rgb(azimuth)).read_bytes() == (
            mine / layout.view_rgb(azimuth)
        ).read_bytes()
        lifted = avatar.views / layout.view_normal(azimuth)
        assert (made.views / layout.view_normal(azimuth)).read_bytes() == lifted.read_bytes()


def own_set(folder: Path, size: int, azimuths: tuple[str, ...]) -> Path:
    for azimuth in azimuths:
        codecs.save_image(folder / layout.view_rgb(azimuth), torch.rand(3, size, size))
    return folder


def test_own_views_that_do_not_fit_are_refused_by_name(tmp_path):
    made = toy.make_toy_avatar(tmp_path / "toy")
    before = {p: p.read_bytes() for p in made.views.rglob("*.png")}
    with pytest.raises(OmegaError, match=r"rgb/180\.png"):
        some = own_set(tmp_path / "a", CONFIG.size, ("000", "045", "090", "270", "315"))
        stage.run(made, CONFIG, report=NullReport(), force=True, views=some)
    with pytest.raises(OmegaError, match="48"):
        stage.run(
            made, CONFIG, report=NullReport(), force=True, views=own_set(tmp_path / "b", 48, layout.AZIMUTHS)
        )
    assert {p: p.read_bytes() for p in made.views.rglob("*.png")} == before


def test_a_missing_source_file_is_named_with_the_command_that_makes_it(tmp_path):
    made = toy.make_toy_avatar(tmp_path / "toy")
    (made.source / layout.SOURCE_PARSING).unlink()
    with pytest.raises(OmegaError) as error:
        stage.run(made, CONFIG, report=NullReport(), force=True)
    assert layout.SOURCE_PARSING in error.value.message and "omega track" in error.value.hint
