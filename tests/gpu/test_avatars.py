"""Real avatars on CUDA: posed and drawn as on the CPU. OMEGA_AVATARS names a folder of avatar folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from omega_cli.avatar.layout import Avatar
from omega_cli.gaussians.splat import render
from omega_cli.geometry.camera import Camera, orthographic
from omega_cli.geometry.raster import interpolate, rasterize
from omega_cli.geometry.rotation import quat_to_matrix
from omega_cli.head.params import HeadParams
from omega_cli.render import film
from omega_cli.render.orbit import frame_head
from omega_cli.render.rig import Rig
from omega_cli.render.stage import load_rig
from omega_cli.splat_uv.canonical import canonical_map
from omega_cli.splat_uv.features import filter_banks
from omega_cli.splat_uv.pixels import view_samples

SIDE = 512
FOLDER = os.environ.get("OMEGA_AVATARS", "")
AVATARS = sorted(p.parent for p in Path(FOLDER).glob("*/gaussians")) if FOLDER else []
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.skipif(not FOLDER, reason="set OMEGA_AVATARS to a folder of avatar folders"),
]
every_avatar = pytest.mark.parametrize("folder", AVATARS, ids=lambda p: p.name)


def talking(rig: Rig, frames: int = 3) -> HeadParams:
    """The avatar turning its head, jaw and eyes, every expression a little on; no two frames alike."""
    g = torch.Generator().manual_seed(0)
    device = rig.shaped.device

    def noise(size: int, scale: float) -> Tensor:
        return (scale * torch.randn(frames, size, generator=g)).to(device)

    return (
        rig.neutral()
        .frames([0] * frames)
        .replace(
            expression=noise(rig.head.E, 0.2).abs(),
            global_orient=noise(3, 1.0),
            neck_pose=noise(3, 0.2),
            jaw_pose=noise(3, 0.05),
            leye_pose=noise(3, 0.2),
            transl=noise(3, 0.1),
        )
    )


def cameras(rig: Rig) -> list[Camera]:
    framing = frame_head(rig.vertices(rig.neutral())[0])
    return [
        framing.camera(0.0, 0.0, SIDE),
        framing.camera(140.0, 25.0, SIDE),
        orthographic(-50.0, SIDE, framing.half_extent, framing.centre),
        orthographic(90.0, SIDE, framing.half_extent, framing.centre, elevation_deg=-15.0),
    ]


def test_the_folder_holds_avatars():
    assert AVATARS, f"no avatar folder in {FOLDER}"


@every_avatar
def test_gsplat_draws_what_the_cpu_draws(folder: Path):
    rig = load_rig(Avatar(folder))
    gaussians = rig.pose(rig.vertices(rig.params)[0])
    for camera in cameras(rig):
        cpu = render(gaussians, camera, backend="native")
        gpu = render(gaussians.to("cuda"), camera.to("cuda"), backend="gsplat")
        assert cpu.alpha.mean() > 0.1
        assert float((gpu.image.cpu() - cpu.image).abs().mean()) < 1e-3
        assert float((gpu.alpha.cpu() - cpu.alpha).abs().mean()) < 1e-3


@every_avatar
@pytest.mark.parametrize("backend", ["native", "torch"])
def test_posing_is_that_of_the_cpu(folder: Path, backend: str):
    here, there = load_rig(Avatar(folder)), load_rig(Avatar(folder), "cuda")
    surfaces = zip(here.vertices(talking(here)), there.vertices(talking(there)), strict=True)
    for vertices, on_gpu in surfaces:
        assert float((on_gpu.cpu() - vertices).abs().max()) < 1e-5
        cpu = here.bound.pose(vertices, backend="native")
        gpu = there.bound.pose(on_gpu, backend=backend).to("cpu")
        assert float((gpu.means - cpu.means).abs().max()) < 1e-5
        torch.testing.assert_close(gpu.scales, cpu.scales, atol=1e-7, rtol=2e-3)
        turned = (quat_to_matrix(gpu.quats) - quat_to_matrix(cpu.quats)).abs()
        assert float(turned.mean()) < 1e-4 and float(turned.quantile(0.999)) < 1e-2


@every_avatar
def test_a_film_is_that_of_the_cpu(folder: Path):
    """Animated, posed, drawn, turned to bytes and fetched, in order."""
    films = []
    for device in ("cpu", "cuda"):
        rig = load_rig(Avatar(folder), device)
        motion = talking(rig, 9).replace(global_orient=torch.zeros(9, 3, device=device))
        camera = frame_head(rig.vertices(rig.neutral())[0].cpu()).camera(20.0, 5.0, 256)
        pictures = film.drawn(rig, motion, [camera] * 9, film.background_color("grey"))
        films.append(list(film.pixels_of((seen.image[:3] for seen in pictures), depth=2)))
    for ours, theirs in zip(*films, strict=True):
        assert ours.shape == (256, 256, 3) and ours.dtype == theirs.dtype
        assert abs(ours.astype(float) - theirs).mean() < 255 * 1e-3


def test_views_splat_to_the_map_of_the_cpu():
    rig = load_rig(Avatar(AVATARS[0]))
    g = torch.Generator().manual_seed(1)
    vertices, head = rig.vertices(rig.params)[0], rig.head
    framing = frame_head(vertices)
    views = [orthographic(a, 256, framing.half_extent, framing.centre) for a in (0.0, 45.0, 180.0)]
    rgb = [torch.rand(3, 256, 256, generator=g) for _ in views]
    part = torch.arange(len(head.faces)) // 4000
    maps = []
    for device in ("cpu", "cuda"):
        mesh = [t.to(device) for t in (vertices, head.faces, head.uvs, head.uv_faces)]
        cams, images = [view.to(device) for view in views], [image.to(device) for image in rgb]
        masks = [rasterize(*mesh[:2], camera).mask.float() for camera in cams]
        together = device == "cuda"
        samples = view_samples(cams, *mesh, masks, part.to(device), together=together)
        features = filter_banks(images, [mask[None] for mask in masks], together=together)
        maps.append(canonical_map(features, samples, [1.0, 0.7, 0.5], confidence_power=4.0))
    cpu, gpu = maps
    # a pixel at an outline may fall to either side, so not every texel can agree
    wrong = (gpu.features.cpu() - cpu.features).abs().amax(0) > 1e-3
    assert float(wrong.float().mean()) < 0.01
    assert float((gpu.weight.cpu() - cpu.weight).abs().mean()) < 1e-3


def test_interpolation_has_the_cpus_values_and_gradient():
    rig = load_rig(Avatar(AVATARS[0]))
    faces, camera = rig.head.faces, cameras(rig)[0]
    fragments = rasterize(rig.shaped, faces, camera)
    g = torch.Generator().manual_seed(0)
    values = torch.randn(len(rig.shaped), 5, generator=g)
    weight = torch.randn(SIDE, SIDE, 5, generator=g)
    results = []
    for device in ("cpu", "cuda"):
        seen = type(fragments)(*(getattr(fragments, n).to(device) for n in vars(fragments)))
        leaf = values.to(device).requires_grad_()
        out = interpolate(seen, faces.to(device), leaf)
        (grad,) = torch.autograd.grad((out * weight.to(device)).sum(), leaf)
        results.append((out.detach().cpu(), grad.cpu()))
    torch.testing.assert_close(results[1][0], results[0][0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(results[1][1], results[0][1], atol=1e-3, rtol=1e-4)
    assert not results[1][0][~fragments.mask].any()
