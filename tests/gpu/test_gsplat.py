"""CUDA against the CPU: gsplat draws what the native renderer draws. Runs where there is a GPU."""

import pytest
import torch

from omega_cli.gaussians.model import Gaussians
from omega_cli.gaussians.splat import render
from omega_cli.geometry.camera import Camera, orthographic, perspective
from omega_cli.geometry.mesh import vertex_normals
from omega_cli.geometry.raster import rasterize
from omega_cli.head.assets import load_head
from omega_cli.kernels.uv_splat import uv_splat

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

CAMERAS = [perspective(30.0, 256, 0.2, elevation_deg=10.0), orthographic(-70.0, 256, 0.2)]


def scene(seed: int, channels: int, n: int = 20_000) -> Gaussians:
    g = torch.Generator().manual_seed(seed)
    return Gaussians(
        means=0.07 * torch.randn(n, 3, generator=g),
        quats=torch.nn.functional.normalize(torch.randn(n, 4, generator=g), dim=1),
        scales=0.004 * torch.rand(n, 3, generator=g) + 2e-4,
        opacities=torch.rand(n, generator=g),
        colors=torch.rand(n, channels, generator=g),
    )


def head_gaussians() -> Gaussians:
    model = load_head()
    assert model.albedo is not None
    n = len(model.v_template)
    identity = torch.tensor([1.0, 0, 0, 0]).expand(n, -1)
    scales = torch.full((n, 3), 0.002)
    return Gaussians(model.v_template, identity, scales, torch.full((n,), 0.95), model.albedo)


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda c: c.model)
@pytest.mark.parametrize("channels", [3, 32])
def test_random_scenes_agree_with_the_cpu(camera: Camera, channels: int):
    for seed in range(25):
        gaussians = scene(seed, channels)
        cpu = render(gaussians, camera, backend="native")
        gpu = render(gaussians.to("cuda"), camera.to("cuda"))
        assert gpu.backend == "gsplat"
        assert float((gpu.image.cpu() - cpu.image).abs().mean()) < 1e-3
        assert float((gpu.alpha.cpu() - cpu.alpha).abs().mean()) < 1e-3


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda c: c.model)
def test_a_head_agrees_with_the_cpu_with_background_and_depth(camera: Camera):
    gaussians, background = head_gaussians(), torch.tensor([0.2, 0.5, 0.8])
    cpu = render(gaussians, camera, background=background, backend="native", with_depth=True)
    gpu = render(gaussians.to("cuda"), camera.to("cuda"), background=background.to("cuda"), with_depth=True)
    assert float((gpu.image.cpu() - cpu.image).abs().mean()) < 1e-3
    assert cpu.depth is not None and gpu.depth is not None
    solid = cpu.alpha > 0.9
    assert float((gpu.depth.cpu() - cpu.depth)[solid].abs().mean()) < 1e-3


def test_gradients_agree_with_the_cpu():
    gradients = []
    for device in ("cpu", "cuda"):
        gaussians = scene(3, 3, n=2000).to(device)
        leaves = [gaussians.means, gaussians.scales, gaussians.opacities, gaussians.colors]
        for leaf in leaves:
            leaf.requires_grad_()
        image = render(gaussians, CAMERAS[0].to(device)).image
        weight = torch.rand(image.shape, generator=torch.Generator().manual_seed(0)).to(device)
        (image * weight).sum().backward()
        gradients.append([leaf.grad.cpu() for leaf in leaves if leaf.grad is not None])
    for ours, theirs in zip(*gradients, strict=True):
        assert float((ours - theirs).norm() / theirs.norm()) < 1e-2


def test_uv_splat_and_mesh_raster_give_the_same_on_cuda():
    g = torch.Generator().manual_seed(0)
    values, uv = torch.randn(2, 5000, 7, generator=g), torch.rand(2, 5000, 2, generator=g)
    cpu, gpu = uv_splat(values, uv, (64, 48)), uv_splat(values.cuda(), uv.cuda(), (64, 48))
    assert torch.allclose(cpu, gpu.cpu(), atol=1e-4)
    model = load_head()
    here = rasterize(model.v_template, model.faces, CAMERAS[0])
    there = rasterize(model.v_template.cuda(), model.faces.cuda(), CAMERAS[0].to("cuda"))
    assert float((here.face_index == there.face_index.cpu()).float().mean()) > 0.999
    normals = vertex_normals(model.v_template, model.faces)
    assert torch.allclose(
        normals, vertex_normals(model.v_template.cuda(), model.faces.cuda()).cpu(), atol=1e-4
    )
