"""decode from folder to folder, and its picture against the truth that the toy avatar knows."""

from __future__ import annotations

import pytest
import torch
import toy

from omega_cli.avatar import codecs, layout, record
from omega_cli.console import NullReport, Report
from omega_cli.decode import stage
from omega_cli.decode.config import DecodeConfig
from omega_cli.errors import OmegaError
from omega_cli.gaussians.binding import BoundGaussians
from omega_cli.gaussians.ply import from_ply
from omega_cli.gaussians.splat import render
from omega_cli.geometry.uvmap import rasterize_uv
from omega_cli.splat_uv import stage as splat_uv
from omega_cli.splat_uv.config import SplatUVConfig

SIZE, FEW = 64, 2  # texels, steps of a fit that nobody looks at


@pytest.fixture
def mapped(toy_avatar):
    """The toy with its true mesh and a UV map that saw every texel in its true colour."""
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


def run(avatar, report: Report | None = None, **settings):
    """Both files; the analytic Gaussians alone unless the settings say how long they are fitted."""
    config = DecodeConfig(**({"fit_steps": 0, "source": "analytic"} | settings))
    stage.run(avatar, config, report=report or NullReport(), force=True)
    return (
        codecs.load_tensors(avatar.gaussians / layout.UV_GAUSSIANS),
        codecs.load_tensors(avatar.gaussians / layout.VERTEX_GAUSSIANS),
    )


def beside_the_truth(avatar, uv, vertex) -> list[float]:
    """PSNR of each of the six views, inside the head; it must be closed there."""
    model, params = toy.head(), toy.toy_params()
    bound = BoundGaussians.from_tensors(uv, vertex, model.identity(params.betas), model.faces)
    still = codecs.load_params(avatar.mesh / layout.FLAME)
    posed = bound.pose(model(still).vertices[0])
    found = []
    for camera in codecs.load_cameras(avatar.views / layout.CAMERAS):
        truth = codecs.load_image(avatar.views / layout.view_rgb(camera.id))
        alpha = codecs.load_image(avatar.views / layout.view_mask(camera.id), 1)
        out = render(posed, camera)
        solid = (torch.nn.functional.max_pool2d(1 - alpha, 5, 1, 2) == 0)[0]
        assert out.alpha[solid].min() > 0.9
        error = ((out.image - truth) ** 2)[:, solid].mean()
        found.append(float(-10 * torch.log10(error)))
    return found


def test_the_decoded_head_looks_like_the_truth_from_all_six_sides(mapped) -> None:
    analytic = beside_the_truth(mapped, *run(mapped))
    assert min(analytic) > 22  # a texel of 5 mm on colours that vary by the cm
    fitted = beside_the_truth(mapped, *run(mapped, fit_steps=15))
    assert all(after > before for before, after in zip(analytic, fitted, strict=True)), (analytic, fitted)


def test_files_hold_what_their_names_say(mapped) -> None:
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


@pytest.mark.parametrize("steps", [0, FEW])
def test_repeats_itself_and_knows_when_it_is_stale(mapped, steps: int) -> None:
    run(mapped, fit_steps=steps)
    outputs = record.read_stage(mapped.gaussians)["outputs"]
    run(mapped, fit_steps=steps)
    assert record.read_stage(mapped.gaussians)["outputs"] == outputs
    assert record.is_fresh(mapped, mapped.gaussians)
    save_map(mapped, torch.rand(3, SIZE, SIZE), torch.ones(1, SIZE, SIZE))
    assert not record.is_fresh(mapped, mapped.gaussians)


def made_of(avatar) -> set[str]:
    """The inputs of gaussians/."""
    return set(record.read_stage(avatar.gaussians)["inputs"])


OWN = {"uv/features.safetensors", "mesh/flame.npz", "mesh/offsets.npz"}
PHOTO = {f"source/{name}" for name in ("image.png", "parsing.png", "cameras.json", "flame.npz")}


def of_views(*azimuths: str) -> set[str]:
    return {"views/cameras.json"} | {f"views/{kind}/{a}.png" for kind in ("rgb", "mask") for a in azimuths}


def test_fitting_brings_the_avatar_nearer_to_the_photo(mapped) -> None:
    analytic, _ = run(mapped)
    assert made_of(mapped) == OWN and "photo_psnr" not in record.read_stage(mapped.gaussians)["metrics"]
    report = Report(quiet=True)
    fitted, _ = run(mapped, report, fit_steps=15)
    assert not report.warnings and made_of(mapped) == OWN | PHOTO | of_views(*layout.AZIMUTHS)
    psnr = record.read_stage(mapped.gaussians)["metrics"]["photo_psnr"]
    assert psnr["fitted"] > psnr["analytic"] + 1  # measured: 1.9 dB, its outline and backdrop counted
    assert fitted["local_offsets"].abs().max() > 0.01  # face scales
    assert torch.equal(fitted["opacities"], analytic["opacities"])


def test_another_photo_makes_the_fitted_gaussians_stale_and_no_others(mapped) -> None:
    for steps, fresh in ((0, True), (1, False)):
        run(mapped, fit_steps=steps)
        assert record.is_fresh(mapped, mapped.gaussians)
        path = mapped.source / layout.SOURCE_IMAGE
        codecs.save_image(path, 0.9 * codecs.load_image(path, 4))
        assert record.is_fresh(mapped, mapped.gaussians) is fresh


@pytest.mark.parametrize(
    "missing", ["source/image.png", "source/parsing.png", "source/flame.npz", "views/mask/180.png"]
)
def test_without_photo_or_views_it_says_so_and_is_analytic(mapped, missing: str) -> None:
    analytic = run(mapped)
    (mapped.root / missing).unlink()
    report = Report(quiet=True)
    made = run(mapped, report, fit_steps=FEW)
    assert "not fitted to the photo" in report.warnings[0] and made_of(mapped) == OWN
    assert record.read_stage(mapped.gaussians)["warnings"]
    for before, after in zip(analytic, made, strict=True):
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_views_that_do_not_fit_their_cameras_or_masks_are_named(mapped) -> None:
    path = mapped.views / layout.view_mask("090")
    mask = codecs.load_image(path, 1)
    codecs.save_image(path, mask[:, ::2, ::2])
    with pytest.raises(OmegaError, match="differ in size"):
        run(mapped, fit_steps=1)
    codecs.save_image(path, mask)
    cameras = codecs.load_cameras(mapped.views / layout.CAMERAS)
    codecs.save_cameras(mapped.views / layout.CAMERAS, [c for c in cameras if c.id != "180"])
    with pytest.raises(OmegaError, match="no camera 180"):
        run(mapped, fit_steps=1)


def test_a_parsing_of_another_size_is_the_same_parsing(mapped) -> None:
    path = mapped.source / layout.SOURCE_PARSING
    labels = codecs.load_labels(path)
    uv, _ = run(mapped, fit_steps=2)
    codecs.save_labels(path, labels.repeat_interleave(2, 0).repeat_interleave(2, 1))
    again, _ = run(mapped, fit_steps=2)
    assert all(torch.equal(again[name], tensor) for name, tensor in uv.items())


def test_what_lies_beyond_the_photo_is_not_fitted(mapped) -> None:
    """crop.json is optional; where it is, it counts: here nothing but its lower half is the photo."""
    run(mapped, fit_steps=FEW)
    psnr = record.read_stage(mapped.gaussians)["metrics"]["photo_psnr"]["analytic"]
    crop = {"scale": 1.0, "shift": [0.0, 64.0], "photo_size": [128, 128]}
    codecs.save_json(mapped.source / layout.SOURCE_CROP, crop)
    run(mapped, fit_steps=FEW)
    assert "source/crop.json" in made_of(mapped)
    assert record.read_stage(mapped.gaussians)["metrics"]["photo_psnr"]["analytic"] != psnr
    photo = stage.load_pictures(
        mapped, stage.picture_files(mapped), toy.head(), toy.head().identity(toy.toy_params().betas), "cpu"
    )[0]
    assert not photo.known[:, : 64 + 9].any() and photo.known[:, 64 + 9 : -9, 9:-9].float().mean() > 0.9


def test_a_map_of_one_view_is_fitted_to_that_view_alone(mapped) -> None:
    config = SplatUVConfig(uv_size=SIZE, encoder="none", single_view=True)
    splat_uv.run(mapped, config, report=NullReport(), force=True)
    (mapped.views / layout.view_rgb("180")).unlink()  # nobody asks for it
    run(mapped, fit_steps=FEW)
    assert made_of(mapped) == OWN | PHOTO | of_views("000")
    files = stage.picture_files(mapped)
    shaped = toy.head().identity(toy.toy_params().betas)
    assert len(stage.load_pictures(mapped, files, toy.head(), shaped, "cpu")) == 2


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


@pytest.mark.parametrize(
    "wrong", [{"texel_sigma": 0.0}, {"opacity": 1.5}, {"vertex_opacity": 0.0}, {"fit_steps": -1}]
)
def test_nonsense_is_refused_before_anything_is_read(wrong) -> None:
    with pytest.raises(ValueError):
        DecodeConfig(**wrong)
