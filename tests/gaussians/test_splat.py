"""render(): compositing, depth, backends and what they say when they cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from omega_cli.errors import OmegaError
from omega_cli.gaussians.model import Gaussians
from omega_cli.gaussians.splat import render
from omega_cli.geometry.camera import orthographic, perspective


def sheet(z: float = 0.0, n: int = 40, opacity: float = 0.95) -> Gaussians:
    """A dense square sheet of Gaussians facing +z, 0.2 m wide."""
    step = (torch.arange(n) + 0.5) / n * 0.2 - 0.1
    y, x = torch.meshgrid(step, step, indexing="ij")
    means = torch.stack([x, y, torch.full_like(x, z)], -1).reshape(-1, 3)
    N = len(means)
    return Gaussians(
        means,
        torch.tensor([1.0, 0, 0, 0]).expand(N, 4).clone(),
        torch.tensor([0.005, 0.005, 0.0005]).expand(N, 3).clone(),
        torch.full((N,), opacity),
        torch.tensor([0.2, 0.5, 0.7]).expand(N, 3).clone(),
    )


@pytest.mark.parametrize("backend", ["native", "torch"])
def test_a_sheet_has_its_colour_its_alpha_and_its_depth(backend: str) -> None:
    camera = perspective(0, 64, 0.15, distance=1.2)
    out = render(sheet(0.1), camera, backend=backend, with_depth=True)
    assert out.backend == backend and out.image.shape == (3, 64, 64) and out.alpha.shape == (64, 64)
    middle = (slice(28, 36), slice(28, 36))
    assert (out.alpha[middle] > 0.999).all() and not out.alpha[:4].any()
    assert out.depth is not None
    torch.testing.assert_close(out.depth[middle], torch.full((8, 8), 1.1), atol=1e-4, rtol=0)
    assert not out.depth[:4].any()
    expected = torch.tensor([0.2, 0.5, 0.7])[:, None, None].expand(3, 8, 8)
    torch.testing.assert_close(out.image[:, 28:36, 28:36], expected, atol=1e-3, rtol=0)


def test_background_shows_where_alpha_does_not() -> None:
    camera = orthographic(0, 48, 0.15)
    background = torch.tensor([1.0, 0.0, 0.5], requires_grad=True)
    plain, out = render(sheet(), camera), render(sheet(), camera, background=background)
    torch.testing.assert_close(out.image, plain.image + (1 - plain.alpha) * background[:, None, None])
    assert out.depth is None
    out.image.sum().backward()
    assert background.grad is not None
    torch.testing.assert_close(background.grad, (1 - plain.alpha).sum().expand(3))


def test_the_nearer_sheet_hides_the_other_from_either_side() -> None:
    front, back = sheet(0.05), sheet(-0.05)
    back = replace(back, colors=torch.tensor([1.0, 0.0, 0.0]).expand(len(back), 3).clone())
    both = Gaussians.concatenate([front, back])
    for azimuth, expected in ((0, [0.2, 0.5, 0.7]), (180, [1.0, 0.0, 0.0])):
        for camera in (orthographic(azimuth, 48, 0.15), perspective(azimuth, 48, 0.15)):
            pixel = render(both, camera).image[:, 24, 24]
            torch.testing.assert_close(pixel, torch.tensor(expected), atol=2e-3, rtol=0)


def test_auto_is_native_in_single_and_torch_in_double() -> None:
    camera = orthographic(0, 16, 0.15)
    g = sheet(n=4)
    assert render(g, camera).backend == "native"
    fields = ("means", "quats", "scales", "opacities", "colors")
    double = Gaussians(*(getattr(g, name).double() for name in fields))
    assert render(double, camera).backend == "torch"


def test_every_field_gets_its_gradient_through_depth_and_image() -> None:
    g = sheet(n=6, opacity=0.4)
    leaves = [t.clone().requires_grad_() for t in (g.means, g.quats, g.scales, g.opacities, g.colors)]
    results = {}
    for backend in ("native", "torch"):
        out = render(Gaussians(*leaves), perspective(30, 40, 0.15), backend=backend, with_depth=True)
        assert out.depth is not None
        loss = (out.image**2).sum() + out.depth.sum() + out.alpha.sum()
        results[backend] = torch.autograd.grad(loss, leaves)
    for a, b in zip(results["native"], results["torch"], strict=True):
        assert b.any() and (a - b).norm() < 1e-3 * b.norm()


def test_many_channels_are_the_same_picture_three_at_a_time() -> None:
    g, camera = sheet(n=10, opacity=0.5), perspective(10, 50, 0.15)
    colors = torch.rand(len(g), 32, generator=torch.Generator().manual_seed(0))
    whole = render(replace(g, colors=colors), camera).image
    for c in range(0, 30, 3):
        part = render(replace(g, colors=colors[:, c : c + 3].contiguous()), camera).image
        torch.testing.assert_close(whole[c : c + 3], part, atol=1e-6, rtol=0)


def test_what_cannot_be_done_is_said() -> None:
    g, camera = sheet(n=3), orthographic(0, 16, 0.15)
    with pytest.raises(OmegaError, match="gsplat draws on CUDA only, the Gaussians are on cpu"):
        render(g, camera, backend="gsplat")
    with pytest.raises(ValueError, match="backend must be one of auto, gsplat, native, torch"):
        render(g, camera, backend="metal")
    with pytest.raises(ValueError, match=r"background must be \[3\], got \(4,\)"):
        render(g, camera, background=torch.zeros(4))


@pytest.mark.gpu
@pytest.mark.parametrize("channels", [3, 32])
@pytest.mark.parametrize("model", ["pinhole", "ortho"])
def test_gsplat_draws_the_same_picture(model: str, channels: int) -> None:
    pytest.importorskip("gsplat")
    camera = perspective(25, 200, 0.15) if model == "pinhole" else orthographic(-60, 180, 0.15)
    generator = torch.Generator().manual_seed(1)
    N = 5000
    g = Gaussians(
        torch.nn.functional.normalize(torch.randn(N, 3, generator=generator), dim=-1) * 0.12,
        torch.nn.functional.normalize(torch.randn(N, 4, generator=generator), dim=-1),
        torch.rand(N, 3, generator=generator) * 0.004 + 0.001,
        torch.rand(N, generator=generator),
        torch.rand(N, channels, generator=generator),
    )
    fields = ("means", "quats", "scales", "opacities", "colors")
    weights = torch.randn(channels, camera.height, camera.width, generator=generator)
    results = []
    for device in ("cpu", "cuda"):
        leaves = [getattr(g, name).to(device).requires_grad_() for name in fields]
        out = render(Gaussians(*leaves), camera)
        assert out.backend == {"cpu": "native", "cuda": "gsplat"}[device]
        grads = torch.autograd.grad((out.image * weights.to(device)).sum() + out.alpha.sum(), leaves)
        results.append([t.detach().cpu() for t in (out.image, out.alpha, *grads)])
    for name, ours, theirs in zip(("image", "alpha", *fields), *results, strict=True):
        assert (ours - theirs).norm() < 2e-3 * theirs.norm(), name
