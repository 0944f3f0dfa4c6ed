"""The Gaussian rasteriser: formula, native = reference in outputs and gradients, invariants."""

from __future__ import annotations

import functools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from omega_cli.geometry.camera import Camera, orthographic, perspective
from omega_cli.kernels import gaussian_reference
from omega_cli.kernels.gaussian_raster import (
    _bin,
    _blend,
    _blend_backward,
    _project,
    _project_backward,
    rasterize_gaussians,
)

BACKENDS = ["native", "torch"]
NAMES = ("means", "quats", "scales", "opacities", "colors")


def cloud(N: int, C: int, sigma_px: float, seed: int = 0) -> list[Tensor]:
    """Gaussians on a head-sized ellipsoid, about `sigma_px` pixels wide in a 100 px image of 0.3 m."""
    g = torch.Generator().manual_seed(seed)
    direction = torch.nn.functional.normalize(torch.randn(N, 3, generator=g), dim=-1)
    scales = (torch.rand(N, 3, generator=g) * 0.6 + 0.7) * sigma_px * 0.003
    return [
        direction * torch.tensor([0.09, 0.13, 0.11]),
        torch.randn(N, 4, generator=g),  # any length
        scales * torch.tensor([1.0, 1.0, 0.2]),
        torch.rand(N, generator=g) * 0.5 + 0.4,
        torch.rand(N, C, generator=g),
    ]


CAMERAS = {
    "pinhole": perspective(20, 100, 0.15),
    "near": perspective(-40, 70, 0.05, distance=0.4),  # much outside the image, some behind the camera
    "ortho": orthographic(75, 90, 0.15),
}


def draw(parts: list[Tensor], camera: Camera, backend: str, **more: Any) -> tuple[Tensor, Tensor, Tensor]:
    return rasterize_gaussians(
        *parts,
        camera.viewmat,
        camera.K,
        camera.width,
        camera.height,
        camera_model=camera.model,
        backend=backend,
        **more,
    )


def draw_and_grads(parts: list[Tensor], camera: Camera, backend: str) -> list[Tensor]:
    leaves = [t.clone().requires_grad_() for t in parts]
    image, alpha, _ = draw(leaves, camera, backend)
    g = torch.Generator().manual_seed(9)
    by_image, by_alpha = (torch.randn(t.shape, generator=g).to(t) for t in (image, alpha))
    grads = torch.autograd.grad((image * by_image).sum() + (alpha * by_alpha).sum(), leaves)
    return [image.detach(), alpha.detach(), *grads]


def relative(got: Tensor, wanted: Tensor) -> float:
    return float((got.double() - wanted.double()).norm() / wanted.double().norm().clamp_min(1e-30))


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_gaussian_is_the_formula(backend: str, vector_width: int) -> None:
    camera = orthographic(0, 40, 0.2)  # 100 px a metre
    parts = [
        torch.tensor([[0.02, -0.03, 0.0]]),
        torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        torch.tensor([[0.03, 0.02, 0.5]]),
        torch.tensor([0.8]),
        torch.tensor([[1.0, 0.5, 0.25]]),
    ]
    image, alpha, splats = draw(parts, camera, backend)
    row, column = torch.meshgrid(torch.arange(40) + 0.5, torch.arange(40) + 0.5, indexing="ij")
    # x: 3 px wide, y: 2 px, both blurred by 0.3 px^2; y is up in the world, down in the image
    d2 = (column - 22) ** 2 / (9 + 0.3) + (row - 23) ** 2 / (4 + 0.3)
    expected = 0.8 * torch.exp(-0.5 * d2)
    expected[expected < 1 / 255] = 0
    torch.testing.assert_close(alpha, expected, atol=2e-6, rtol=0)
    colored = expected * torch.tensor([1.0, 0.5, 0.25])[:, None, None]
    torch.testing.assert_close(image, colored, atol=2e-6, rtol=0)
    torch.testing.assert_close(splats[0, [0, 1, 5]], torch.tensor([22.0, 23.0, 2.0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_pixel_of_a_deep_pile(backend: str) -> None:
    """Alpha clamp, transmittance stop, front to back: against a plain loop over one pixel."""
    camera = orthographic(0, 16, 0.08)
    g = torch.Generator().manual_seed(1)
    for opacity_range in ((0.02, 0.3), (0.4, 0.9), (0.99, 1.0)):
        n = 40
        low, high = opacity_range
        opacities = torch.rand(n, generator=g) * (high - low) + low
        means = torch.zeros(n, 3)
        means[:, 2] = torch.linspace(0.5, -0.5, n)  # the camera is at +z: nearest first
        colors = torch.rand(n, 2, generator=g)
        quats = torch.tensor([1.0, 0, 0, 0]).expand(n, 4)
        image, alpha, _ = draw([means, quats, torch.full((n, 3), 10.0), opacities, colors], camera, backend)
        light, total = 1.0, torch.zeros(2)
        for opacity, color in zip(opacities, colors, strict=True):
            a = min(0.999, float(opacity))
            if light * (1 - a) <= 1e-4:
                break
            total, light = total + light * a * color, light * (1 - a)
        torch.testing.assert_close(image[:, 8, 8], total, atol=3e-5, rtol=0)  # 10 m wide: not quite flat
        assert abs(float(alpha[8, 8]) - (1 - light)) < 3e-5


@functools.cache  # the oracle is slow, and the same for every version of the kernels
def reference_results(name: str, N: int, C: int) -> list[Tensor]:
    return draw_and_grads(cloud(N, C, 2.5, seed=N + C), CAMERAS[name], "torch")


@pytest.mark.parametrize("name", CAMERAS)
@pytest.mark.parametrize(("N", "C"), [(1, 1), (400, 3), (200, 4), (100, 32), (100, 33), (60, 64), (60, 256)])
def test_native_equals_reference(name: str, N: int, C: int, vector_width: int) -> None:
    got = draw_and_grads(cloud(N, C, 2.5, seed=N + C), CAMERAS[name], "native")
    wanted = reference_results(name, N, C)
    # 7e-6 seen, but for a pixel that falls on the other side of the 1/255 cut: at most two here
    off = (got[0] - wanted[0]).abs().amax(0)
    assert wanted[1].any() and off.max() < 1 / 255 and (off > 3e-5).sum() <= 2
    for label, a, b in zip(("image", "alpha", *NAMES), got, wanted, strict=True):
        assert relative(a, b) < 2e-3, label  # 5e-6 seen; 5e-4 with such a pixel


def test_gradients_of_the_reference_by_finite_differences() -> None:
    """In double, with Gaussians so wide that no pixel is near the cut, the clamp or the stop."""
    for camera in (perspective(25, 6, 0.15), orthographic(25, 6, 0.15)):
        parts = [t.double().requires_grad_() for t in cloud(3, 2, 60.0, seed=4)]
        assert torch.autograd.gradcheck(lambda *p, c=camera: draw(list(p), c, "torch")[:2], parts, atol=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_cannot_be_seen_leaves_no_trace(backend: str) -> None:
    camera = CAMERAS["pinhole"]
    clean = cloud(60, 3, 2.0)
    unseen = [t[:8].clone() for t in cloud(8, 3, 2.0, seed=3)]
    nan = float("nan")
    unseen[0][0] = 1.5 * camera.position  # behind
    unseen[0][1] = camera.position + 0.005 * camera.forward  # nearer than the near plane
    unseen[0][2] = torch.tensor([5.0, 0.0, 0.0])  # beside the image
    unseen[3][3] = 0.5 / 255  # too faint
    unseen[0][4, 1] = nan
    unseen[1][5] = 0.0  # no rotation at all
    unseen[2][6, 0] = float("inf")
    unseen[3][7] = nan
    together = [torch.cat([a, b]) for a, b in zip(unseen, clean, strict=True)]
    wanted, got = draw_and_grads(clean, camera, backend), draw_and_grads(together, camera, backend)
    for a, b in zip(got[:2], wanted[:2], strict=True):
        torch.testing.assert_close(a, b, atol=5e-6, rtol=0)
    for label, a, b in zip(NAMES, got[2:], wanted[2:], strict=True):
        assert not a[:8].any(), label
        # other tiles hold the eight: torch's sums over a tile's list come in another order
        torch.testing.assert_close(a[8:], b, atol=0 if backend == "native" else 2e-4, rtol=2e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("field", NAMES)
def test_a_broken_number_takes_its_own_gaussian_away(
    backend: str, value: float, field: str, vector_width: int
) -> None:
    parts, camera = cloud(40, 3, 2.0), CAMERAS["ortho"]
    broken = [t.clone() for t in parts]
    broken[NAMES.index(field)].view(40, -1)[7, -1] = value
    rest = [torch.cat([t[:7], t[8:]]) for t in parts]
    wanted, got = draw_and_grads(rest, camera, backend), draw_and_grads(broken, camera, backend)
    for a, b in zip(got[:2], wanted[:2], strict=True):
        torch.testing.assert_close(a, b, atol=2e-6, rtol=0)
    for label, a, b in zip(NAMES, got[2:], wanted[2:], strict=True):
        assert not a[7].any(), label
        scale = float(b.abs().max())
        torch.testing.assert_close(torch.cat([a[:7], a[8:]]), b, atol=1e-5 * scale, rtol=0)  # 2e-6 seen


def blend_inputs(C: int, dtype: torch.dtype, camera: Camera) -> tuple[Tensor, ...]:
    """splats, opacities, colors, starts, entries of a cloud."""
    means, quats, scales, opacities, colors = (t.to(dtype) for t in cloud(150, C, 3.0))
    size = (camera.height, camera.width)
    view = gaussian_reference.View(
        camera.viewmat.to(dtype), camera.K.to(dtype), *size, camera.model == "ortho", 0.01, 0.3
    )
    splats = gaussian_reference.project(means, quats, scales, opacities, view)
    return splats, opacities, colors, *gaussian_reference.tile_lists(splats, *size)


def test_blending_is_linear_in_colors_and_its_gradient_the_adjoint(vector_width: int) -> None:
    """<g, blend(c)> = <grad of c, c>: to 1e-12 in double on the reference, to rounding on native."""
    camera = CAMERAS["ortho"]
    size = (camera.height, camera.width)
    for blend, dtype, tolerance in (
        (gaussian_reference.blend, torch.float64, 1e-12),
        (_blend, torch.float32, 2e-6),  # 2e-7 seen
    ):
        splats, opacities, colors, starts, entries = blend_inputs(5, dtype, camera)
        leaf = colors.clone().requires_grad_()
        image, _ = blend(splats, opacities, leaf, starts, entries, *size)
        g = torch.randn(image.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
        (grad,) = torch.autograd.grad((image * g).sum(), leaf)
        there, back = (image.detach().double() * g).sum(), (grad.double() * colors).sum()
        assert abs(there - back) < tolerance * float((image.detach() * g).abs().sum())
        twice = blend(splats, opacities, 3 * colors, starts, entries, *size)[0]
        torch.testing.assert_close(twice, 3 * image.detach(), atol=30 * tolerance, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_light_is_kept(backend: str, vector_width: int) -> None:
    """White Gaussians make an image that is their alpha: what is laid and what is left make one."""
    parts = cloud(300, 2, 3.0)
    parts[4] = torch.ones_like(parts[4])
    image, alpha, _ = draw(parts, CAMERAS["pinhole"], backend)
    assert 0 < alpha.max() <= 1
    torch.testing.assert_close(image, alpha.expand_as(image), atol=2e-6, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_strides_do_not_matter(backend: str) -> None:
    parts, camera = cloud(80, 3, 2.0), CAMERAS["pinhole"]
    strided = [torch.stack([t, t + 9], -1)[..., 0] for t in parts]
    assert not any(t.is_contiguous() for t in strided)
    wanted, got = draw_and_grads(parts, camera, backend), draw_and_grads(strided, camera, backend)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=0, rtol=0)
    turned = (camera.viewmat.T.contiguous().T, camera.K.T.contiguous().T, camera.width, camera.height)
    assert not turned[0].is_contiguous()
    image, _, _ = rasterize_gaussians(*strided, *turned, camera_model=camera.model, backend=backend)
    torch.testing.assert_close(image, wanted[0], atol=0, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_outside(backend: str) -> None:
    parts = cloud(50, 3, 2.0)
    parts[0] = parts[0] + torch.tensor([0.0, 3.0, 0.0])
    image, alpha, *grads = draw_and_grads(parts, CAMERAS["ortho"], backend)
    assert not image.any() and not alpha.any() and not any(grad.any() for grad in grads)


@pytest.mark.parametrize("backend", [*BACKENDS, "auto"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_colors_are_blended_in_float32(backend: str, dtype: torch.dtype) -> None:
    parts, camera = cloud(200, 5, 3.0), CAMERAS["pinhole"]
    parts[4] = parts[4].to(dtype)
    got = draw_and_grads(parts, camera, backend)
    exact = draw_and_grads([*parts[:4], parts[4].float()], camera, backend)
    assert got[0].dtype == torch.float32 and torch.equal(got[0], exact[0])
    assert got[-1].dtype == dtype and torch.equal(got[-1], exact[-1].to(dtype))
    for a, b in zip(got[1:-1], exact[1:-1], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
def test_sizes_beyond_32_bits_are_refused(backend: str) -> None:
    """Before anything as large is made."""
    parts, camera = cloud(1, 3, 1.0), CAMERAS["ortho"]
    place = (camera.viewmat, camera.K)
    with pytest.raises(ValueError, match="image values: 2147483648 is too many, the limit is 2147483647"):
        rasterize_gaussians(*parts[:4], parts[4][:, :2], *place, 1 << 15, 1 << 15, backend=backend)
    many = [t.expand(1 << 31, *t.shape[1:]) for t in parts]
    with pytest.raises(ValueError, match="gaussians: 2147483648 is too many"):
        rasterize_gaussians(*many, *place, 8, 8, backend=backend)
    wide = torch.zeros(1, 1, dtype=torch.float16).expand(1, 1 << 31)
    with pytest.raises(ValueError, match="colors: 2147483648 is too many"):
        rasterize_gaussians(*parts[:4], wide, *place, 1, 1, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_gaussians_at_all(backend: str) -> None:
    image, alpha, splats = draw([t[:0] for t in cloud(2, 5, 1.0)], CAMERAS["ortho"], backend)
    assert image.shape == (5, 90, 90) and not image.any() and not alpha.any() and splats.shape == (0, 8)


@pytest.mark.parametrize("backend", BACKENDS)
def test_order_and_quaternion_length_do_not_matter(backend: str) -> None:
    parts = cloud(300, 3, 3.0)
    image, alpha, _ = draw(parts, CAMERAS["pinhole"], backend)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    shuffled = draw([t[order] for t in parts], CAMERAS["pinhole"], backend)
    if backend == "native":
        assert torch.equal(shuffled[0], image)
    else:
        torch.testing.assert_close(shuffled[0], image, atol=1e-5, rtol=0)
    parts[1] = -3 * parts[1]
    torch.testing.assert_close(draw(parts, CAMERAS["pinhole"], backend)[1], alpha, atol=1e-5, rtol=0)


def test_equal_depths_keep_their_order() -> None:
    camera = orthographic(0, 16, 0.08)
    n = 3
    parts = [
        torch.zeros(n, 3),
        torch.tensor([1.0, 0, 0, 0]).expand(n, 4),
        torch.full((n, 3), 1.0),
        torch.full((n,), 0.9),
        torch.eye(3),
    ]
    for backend in BACKENDS:
        pixel = draw(parts, camera, backend)[0][:, 8, 8]
        torch.testing.assert_close(pixel, torch.tensor([0.9, 0.09, 0.009]), atol=1e-4, rtol=0)


def test_a_rigid_move_of_everything_changes_nothing() -> None:
    from omega_cli.geometry.rotation import axis_angle_to_matrix, axis_angle_to_quat, quat_multiply

    parts, camera = cloud(200, 3, 3.0), CAMERAS["pinhole"]
    turn, shift = torch.tensor([0.4, -1.1, 0.7]), torch.tensor([0.3, -0.2, 0.1])
    R = axis_angle_to_matrix(turn)
    moved = [parts[0] @ R.T + shift, quat_multiply(axis_angle_to_quat(turn), parts[1]), *parts[2:]]
    world = torch.eye(4)
    world[:3, :3], world[:3, 3] = R.T, -R.T @ shift
    viewmat = camera.viewmat @ world
    size = (camera.width, camera.height)
    image = rasterize_gaussians(*moved, viewmat, camera.K, *size, backend="native")[0]
    torch.testing.assert_close(image, draw(parts, camera, "native")[0], atol=2e-3, rtol=0)


def test_the_same_bits_for_any_number_of_threads(with_threads: None) -> None:
    parts = cloud(800, 5, 3.0)
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(draw_and_grads(parts, CAMERAS["pinhole"], "native"))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_operators_are_well_formed() -> None:
    parts, camera = cloud(30, 3, 2.0), CAMERAS["ortho"]
    view = (camera.viewmat, camera.K, 90, 90, True, 0.01, 0.3)
    leaves = [t.requires_grad_() for t in parts]
    torch.library.opcheck(_project.overload, (*leaves[:4], *view))
    splats = _project(*leaves[:4], *view).detach()
    means, quats, scales, opacities, colors = (t.detach() for t in leaves)
    by_splats = torch.randn(splats.shape, generator=torch.Generator().manual_seed(0))
    camera_and_splats = (camera.viewmat, camera.K, splats, by_splats)
    torch.library.opcheck(_project_backward.overload, (means, quats, scales, *camera_and_splats, *view[2:]))
    starts, entries = _bin(splats, 90, 90)
    torch.library.opcheck(_bin.overload, (splats, 90, 90))
    blended = (splats.requires_grad_(), leaves[3], leaves[4], starts, entries, 90, 90)
    torch.library.opcheck(_blend.overload, blended)
    image, alpha = _blend(splats.detach(), opacities, colors, starts, entries, 90, 90)
    backward = (splats.detach(), opacities, colors, starts, entries, image, alpha, image, alpha)
    torch.library.opcheck(_blend_backward.overload, backward)


def test_double_precision_agrees_with_single() -> None:
    parts = cloud(100, 3, 4.0)
    single = draw(parts, CAMERAS["pinhole"], "auto")
    double = draw([t.double() for t in parts], CAMERAS["pinhole"], "auto")
    assert double[0].dtype == torch.float64 and math.isclose(relative(single[0], double[0]), 0, abs_tol=2e-4)


def test_wrong_shapes_are_named() -> None:
    parts, camera = cloud(4, 3, 1.0), CAMERAS["ortho"]
    with pytest.raises(ValueError, match=r"opacities must be \(4,\), got \(4, 1\)"):
        draw([*parts[:3], parts[3][:, None], parts[4]], camera, "auto")
    with pytest.raises(ValueError, match=r"colors must be \[4, C\] with C >= 1, got \(4, 0\)"):
        draw([*parts[:4], parts[4][:, :0]], camera, "auto")
    with pytest.raises(ValueError, match="camera_model must be pinhole or ortho"):
        rasterize_gaussians(*parts, camera.viewmat, camera.K, 9, 9, camera_model="fisheye")
