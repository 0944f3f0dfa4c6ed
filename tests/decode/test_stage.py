"""decode from folder to folder, and its picture against the truth that the toy avatar knows."""

from __future__ import annotations

import pytest
import torch

from omega_cli.avatar import codecs, layout, record
from omega_cli.console import NullReport
from omega_cli.decode import stage
from omega_cli.decode.config import DecodeConfig
from omega_cli.errors import OmegaError
from omega_cli.gaussians.binding import BoundGaussians
from omega_cli.gaussians.ply import from_ply
from omega_cli.gaussians.splat import render
from omega_cli.geometry.uvmap import rasterize_uv

SIZE = 64


@pytest.fixture
def mapped(toy_avatar):
    """The toy with its true mesh and a UV map that saw every texel in its true colour."""
    import toy

    model, params = toy.head(), toy.toy_params()
    still = params.replace(global_orient=torch.zeros(1, 3), transl=torch.zeros(1, 3))
    codecs.save_params(toy_avatar.mesh / layout.FLAME, still, head=model)
    codecs.save_offsets(toy_avatar.mesh / layout.OFFSETS, torch.zeros_like(model.v_template))
    face_index, barycentric = rasterize_uv(model.uvs, model.uv_faces, SIZE)
    resting = model.identity(params.betas)
    points = (resting[model.faces[face_index.clamp_min(0)]] * barycentric[..., None]).sum(-2)
    save_map(toy_avatar, toy.true_color(points).permute(2, 0, 1), torch.ones(1, SIZE, SIZE))
    return toy_avatar


def save_map(avatar, features: torch.Tensor, weight: torch.Tensor) -> None:
    codecs.save_tensors(
        avatar.uv / layout.FEATURES, features=features, weight=weight, identity=torch.zeros(6)
    )


def run(avatar, **settings):
    stage.run(avatar, DecodeConfig(**settings), report=NullReport(), force=True)
    return (
        codecs.load_tensors(avatar.gaussians / layout.UV_GAUSSIANS),
        codecs.load_tensors(avatar.gaussians / layout.VERTEX_GAUSSIANS),
    )


def test_the_decoded_head_looks_like_the_truth_from_all_six_sides(mapped) -> None:
    import toy

    uv, vertex = run(mapped)
    model, params = toy.head(), toy.toy_params()
    resting = model.identity(params.betas)
    bound = BoundGaussians.from_tensors(uv, vertex, resting, model.faces)
    still = codecs.load_params(mapped.mesh / layout.FLAME)
    posed = bound.pose(model(still).vertices[0])
    for camera in codecs.load_cameras(mapped.views / layout.CAMERAS):
        truth = codecs.load_image(mapped.views / layout.view_rgb(camera.id))
        alpha = codecs.load_image(mapped.views / layout.view_mask(camera.id), 1)
        out = render(posed, camera)
        solid = (torch.nn.functional.max_pool2d(1 - alpha, 5, 1, 2) == 0)[0]
        assert out.alpha[solid].min() > 0.9
        error = ((out.image - truth) ** 2)[:, solid].mean()
        assert -10 * torch.log10(error) > 22, camera.id  # a texel of 5 mm on colours that vary by the cm


def test_files_hold_what_their_names_say(mapped) -> None:
    import toy

    uv, vertex = run(mapped)
    V, F = len(toy.head().v_template), len(toy.head().faces)
    assert set(vertex) == {"quats", "scales", "opacities", "colors"} and len(vertex["quats"]) == V
    assert set(uv) == set(vertex) | {"local_offsets", "face_index", "barycentric"}
    assert uv["face_index"].dtype == torch.int32 and int(uv["face_index"].max()) < F
    assert torch.allclose(uv["barycentric"].sum(1), torch.ones(len(uv["quats"])), atol=1e-4)
    assert uv["local_offsets"].abs().max() < 1e-4
    ply = from_ply((mapped.gaussians / layout.CANONICAL_PLY).read_bytes())
    assert len(ply) == len(uv["quats"]) + V
    resting = toy.head().identity(toy.toy_params().betas)
    assert (ply.means.amin(0) - resting.amin(0)).abs().max() < 0.01  # metres, in the head's own frame
    sheet = codecs.load_image(mapped.gaussians / layout.SHEET)
    assert sheet.shape == (3, 512, 1024) and (sheet < 0.95).float().mean() > 0.15


def test_repeats_itself_and_knows_when_it_is_stale(mapped) -> None:
    run(mapped)
    outputs = record.read_stage(mapped.gaussians)["outputs"]
    run(mapped)
    assert record.read_stage(mapped.gaussians)["outputs"] == outputs
    assert record.is_fresh(mapped, mapped.gaussians)
    save_map(mapped, torch.rand(3, SIZE, SIZE), torch.ones(1, SIZE, SIZE))
    assert not record.is_fresh(mapped, mapped.gaussians)


def test_a_map_that_does_not_fit_is_refused_with_the_command_to_rerun(mapped) -> None:
    save_map(mapped, torch.rand(3, SIZE, SIZE), torch.ones(1, 32, 32))
    with pytest.raises(OmegaError) as caught:
        run(mapped)
    assert "[3, 64, 64]" in caught.value.message and "splat-uv" in caught.value.hint
    assert not mapped.gaussians.exists()


def test_a_missing_map_names_the_command_that_makes_it(mapped) -> None:
    (mapped.uv / layout.FEATURES).unlink()
    with pytest.raises(OmegaError) as caught:
        run(mapped)
    assert "splat-uv" in caught.value.hint and not mapped.gaussians.exists()


@pytest.mark.parametrize("wrong", [{"texel_sigma": 0.0}, {"opacity": 1.5}, {"vertex_opacity": 0.0}])
def test_nonsense_is_refused_before_anything_is_read(wrong) -> None:
    with pytest.raises(ValueError):
        DecodeConfig(**wrong)
