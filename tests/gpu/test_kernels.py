"""The CUDA kernels against the torch references in double precision, forward and all gradients."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from omega_cli.geometry.camera import orthographic, perspective
from omega_cli.geometry.raster import rasterize, rasterize_views
from omega_cli.head.assets import load_head
from omega_cli.kernels.mesh_raster import _mesh_raster, rasterize_mesh
from omega_cli.kernels.uv_splat import _uv_splat_levels, uv_splat, uv_splat_pyramid

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def points(B: int, P: int, C: int, seed: int = 0, spill: float = 0.3) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    uv = torch.rand(B, P, 2, generator=g) * (1 + 2 * spill) - spill
    return torch.randn(B, P, C, generator=g).cuda(), uv.cuda()


def exact(uv: Tensor) -> Tensor:
    """The same places moved a little, so that single precision places them exactly in the maps of these
    tests, and none on a line between texel centres, where the gradient jumps."""
    return ((uv * 4096).floor() + 0.5) / 4096


def columns(B: int, P: int, E: int, seed: int = 9) -> tuple[Tensor, Tensor]:
    """Weights, some of them zero, and extra columns."""
    g = torch.Generator().manual_seed(seed)
    weight = (torch.rand(B, P, generator=g) - 0.2).clamp_min(0)
    return weight.cuda(), torch.randn(B, P, E, generator=g).cuda()


def assert_near(got: Tensor, wanted: Tensor, share: float) -> None:
    assert got.shape == wanted.shape
    torch.testing.assert_close(got.double(), wanted, atol=share * float(wanted.abs().amax()) + 1e-12, rtol=0)


def outputs_and_grads(
    inputs: Sequence[Tensor | None], size: tuple[int, int], levels: int, backend: str
) -> list[Tensor]:
    values, uv, *rest = [t if t is None else t.clone().requires_grad_() for t in inputs]
    weight, extra = rest if rest else (None, None)
    leaves = [t for t in (values, uv, weight, extra) if t is not None]
    maps = uv_splat_pyramid(values, uv, size, levels, weight=weight, extra=extra, backend=backend)
    outs = [out for pair in maps for out in pair if out is not None]
    g = torch.Generator().manual_seed(5)
    total = sum((o * torch.randn(o.shape, generator=g).to(o)).sum() for o in outs)
    return [*(o.detach() for o in outs), *torch.autograd.grad(total, leaves)]


@pytest.mark.parametrize("C", [1, 3, 4, 32, 33, 64, 256])
def test_uv_splat_equals_the_reference(C: int):
    for B, P, size in (
        (1, 1, (1, 1)),
        (2, 500, (13, 17)),
        (1, 4000, (64, 5)),
        (3, 50, (1, 40)),
        (2, 9000, (96, 80)),
    ):
        values, uv = points(B, P, C, seed=C)
        inputs = [values, exact(uv)]
        wanted = outputs_and_grads([t.double() for t in inputs], size, 1, "torch")
        for got, expected in zip(outputs_and_grads(inputs, size, 1, "native"), wanted, strict=True):
            assert_near(got, expected, 5e-6)


@pytest.mark.parametrize("E", [None, 1, 2])
@pytest.mark.parametrize("C", [1, 3, 32, 33, 64, 256])
def test_pyramids_of_sizes_that_cut_patches_equal_the_reference(C: int, E: int | None):
    """Patches are of 4 x 4 texels, blocks of 4 x 2, 4 x 4 or 8 x 4 patches."""
    for size, levels in (
        ((5, 7), 1),
        ((6, 10), 2),
        ((2, 70), 2),
        ((12, 20), 3),
        ((4, 4), 3),
        ((36, 100), 3),
        ((40, 24), 4),
        ((48, 80), 5),
    ):
        values, uv = points(2, 700, C, seed=levels)
        weight, extra = columns(2, 700, E or 1)
        inputs = [values, exact(uv), weight, None if E is None else extra]
        doubled = [t if t is None else t.double() for t in inputs]
        wanted = outputs_and_grads(doubled, size, levels, "torch")
        for got, expected in zip(outputs_and_grads(inputs, size, levels, "native"), wanted, strict=True):
            assert_near(got, expected, 2e-6)  # 2e-7 is what sums in this order lose in float32


@pytest.mark.parametrize("C", [3, 64])
@pytest.mark.parametrize("levels", [2, 4])
def test_a_pyramid_with_weights_and_extras_equals_the_reference(C: int, levels: int):
    for B, P, size in ((1, 3, (8, 8)), (2, 3000, (24, 40)), (1, 20_000, (128, 64))):
        values, uv = points(B, P, C, seed=levels)
        inputs = [values, exact(uv), *columns(B, P, 2)]
        wanted = outputs_and_grads([t.double() for t in inputs], size, levels, "torch")
        for got, expected in zip(outputs_and_grads(inputs, size, levels, "native"), wanted, strict=True):
            assert_near(got, expected, 5e-6)


def test_many_extra_columns_and_a_value_under_weight_zero():
    values, uv = points(1, 3000, 8)
    weight, extra = columns(1, 3000, 5)
    size = (32, 24)
    inputs = [values, exact(uv), weight, extra]
    wanted = outputs_and_grads([t.double() for t in inputs], size, 3, "torch")
    for got, expected in zip(outputs_and_grads(inputs, size, 3, "native"), wanted, strict=True):
        assert_near(got, expected, 5e-6)
    values[0, weight[0] == 0] = float("nan")
    inputs = [values, uv, weight, extra[..., :2]]
    assert all(t.isfinite().all() for t in outputs_and_grads(inputs, size, 3, "native"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("C", [1, 6, 33, 64, 256])
def test_small_types_are_summed_in_single(dtype: torch.dtype, C: int):
    for size, levels in (((16, 12), 1), ((18, 10), 2), ((16, 48), 5)):
        values, uv = points(2, 5000, C)
        values, uv = values.to(dtype), exact(uv)
        wanted = outputs_and_grads([values.double(), uv.double()], size, levels, "torch")
        got = outputs_and_grads([values, uv], size, levels, "auto")
        assert [t.dtype for t in got] == [torch.float32] * levels + [dtype, torch.float32]
        for level in range(levels):
            assert_near(got[level], wanted[level], 5e-6)
        assert_near(
            got[-2], wanted[-2], 4e-3 if dtype == torch.bfloat16 else 5e-4
        )  # rounded once, to its type
        assert_near(got[-1], wanted[-1], 5e-6)


def test_adjoint_mass_and_order():
    values, uv = points(2, 30_000, 8, spill=0)
    uv = uv * (1 - 1 / 32) + 0.5 / 32
    out = uv_splat(values, uv, (32, 32))
    g = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).cuda()
    sampled = torch.nn.functional.grid_sample(
        g.double(), 2 * uv.double()[:, None] - 1, padding_mode="zeros", align_corners=False
    )
    adjoint = (values.double() * sampled[:, :, 0].transpose(1, 2)).sum()
    scale = float(values.abs().sum() * g.abs().mean())
    assert abs(float((out.double() * g).sum() - adjoint)) < 1e-6 * scale
    assert_near(out.sum((2, 3)), values.double().sum(1), 1e-4)
    order = torch.randperm(30_000, generator=torch.Generator().manual_seed(3)).cuda()
    assert_near(uv_splat(values[:, order], uv[:, order], (32, 32)), out.double(), 1e-5)


def test_the_same_bits_in_every_run_also_when_crowded():
    values, uv = points(2, 40_000, 7)
    uv = uv.clamp(0.4, 0.41)  # thousands of points in one cell
    first = uv_splat(values, uv, (64, 64))
    assert all(torch.equal(uv_splat(values, uv, (64, 64)), first) for _ in range(3))
    assert_near(first, uv_splat(values.double(), uv.double(), (64, 64)), 2e-5)
    maps = [[sums for sums, _ in uv_splat_pyramid(values, uv, (64, 64), 6)] for _ in range(3)]
    for level, (sums, *again) in enumerate(zip(*maps, strict=True)):
        assert all(torch.equal(other, sums) for other in again)
        pooled = torch.nn.functional.avg_pool2d(first.double(), 1 << level, divisor_override=1)
        assert_near(sums, pooled, 1e-6)


def test_points_and_values_that_are_not_finite():
    values, uv = points(1, 400, 3, spill=0)
    clean = uv_splat(values[:, 4:], uv[:, 4:], (8, 8))
    broken = uv.clone()
    broken[0, :4, 0] = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e30])
    assert torch.equal(uv_splat(values, broken, (8, 8)), clean)
    one, by_values, by_uv = outputs_and_grads([values, broken], (8, 8), 1, "native")
    assert one.isfinite().all() and by_values.isfinite().all() and by_uv.isfinite().all()
    assert not by_values[0, :4].any() and not by_uv[0, :4].any()
    for value in (float("nan"), float("inf")):
        spots = torch.tensor([[[2.5 / 8, 1.5 / 8], [5.0 / 8, 6.0 / 8], [2.0, 0.5]]]).cuda()
        marked = torch.full((1, 3, 2), value).cuda()
        marked[..., 1] = 1.0
        out = uv_splat(marked, spots, (8, 8))[0]
        hit = ~out[0].isfinite()
        assert hit.nonzero().tolist() == [[1, 2], [5, 4], [5, 5], [6, 4], [6, 5]]
        assert out[1].isfinite().all() and not out[0][~hit].any()


def test_nothing_all_outside_and_strides():
    empty = uv_splat(torch.zeros(2, 0, 3).cuda(), torch.zeros(2, 0, 2).cuda(), (4, 6))
    assert empty.shape == (2, 3, 4, 6) and not empty.any()
    values, uv = points(3, 200, 5)
    assert not uv_splat(values, uv + 3, (4, 6)).any()
    out = uv_splat(values, uv, (9, 9))
    strided = values.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    wide = torch.cat([uv, uv], -1)[..., 1:3].flip(-1)
    assert not strided.is_contiguous()
    assert torch.equal(uv_splat(strided, wide, (9, 9)), out)
    crooked = torch.cat([values.new_zeros(1), torch.randn(3 * 200 * 4).cuda()])[1:].view(3, 200, 4)
    assert crooked.data_ptr() % 16  # vector loads need another address
    assert_near(uv_splat(crooked, uv, (9, 9)), uv_splat(crooked.double(), uv.double(), (9, 9)), 5e-6)


def test_operators_are_well_formed():
    values, uv = points(2, 30, 4)
    weight, extra = columns(2, 30, 2)
    leaves = [t.requires_grad_() for t in (values, uv, weight, extra)]
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(_uv_splat_levels.overload, (*leaves, 8, 12, 2), test_utils=checks)
    torch.library.opcheck(_uv_splat_levels.overload, (*leaves, 8, 16, 4), test_utils=checks)
    clip = torch.rand(2, 30, 4, device="cuda") * 20 + 1
    torch.library.opcheck(_mesh_raster.overload, (clip, torch.arange(30).view(10, 3).cuda(), 20, 20))


def soup(count: int, H: int, W: int, seed: int, perspective: bool) -> tuple[Tensor, Tensor]:
    """Random triangles in clip space, small and large, some broken or behind the near plane."""
    g = torch.Generator().manual_seed(seed)
    pixel = torch.rand(count, 1, 2, generator=g) * torch.tensor([W * 1.2, H * 1.2]) - 0.1 * W
    reach = torch.where(torch.rand(count, 1, 1, generator=g) < 0.1, 0.6 * W, 0.03 * W)
    pixel = pixel + torch.randn(count, 3, 2, generator=g) * reach
    z = 0.5 + torch.rand(count, 3, 1, generator=g)
    z[: count // 10, 0] = -0.2
    z[count // 10 : count // 8, 1] = float("nan")
    w = z if perspective else torch.ones_like(z)
    return torch.cat([pixel * w, z, w], -1).reshape(-1, 4), torch.arange(3 * count).reshape(count, 3)


@pytest.mark.parametrize("perspective", [True, False])
def test_mesh_raster_equals_the_reference(perspective: bool):
    cases = ((1, (8, 8), 0), (60, (50, 37), 1), (300, (64, 100), 2), (40, (1, 33), 3), (900, (200, 200), 4))
    for count, (H, W), seed in cases:
        clip, faces = (t.cuda() for t in soup(count, H, W, seed, perspective))
        got = rasterize_mesh(clip, faces, (H, W), backend="native")
        wanted = rasterize_mesh(clip.double(), faces, (H, W), backend="torch")
        same = got.face_index == wanted.face_index
        assert (~same).float().mean() < 2e-3  # a pixel centre on an edge may fall to either side
        both = same & got.mask
        assert_near(got.depth[both], wanted.depth[both], 1e-4)
        torch.testing.assert_close(
            got.barycentric[both].double(), wanted.barycentric[both], atol=5e-3, rtol=0
        )
        assert got.depth[~got.mask].isinf().all() and not got.barycentric[~got.mask].any()


def test_mesh_raster_rules_on_the_head():
    model = load_head(device="cuda")
    cameras = [perspective(30.0, 256, 0.2), orthographic(-70.0, 256, 0.2).resized(256, 256)]
    cameras = [camera.to("cuda") for camera in cameras]
    together = rasterize_views(model.v_template, model.faces, cameras)
    for b, camera in enumerate(cameras):
        alone = rasterize(model.v_template, model.faces, camera)
        here = rasterize(model.v_template.cpu(), model.faces.cpu(), camera.to("cpu"))
        for name in ("face_index", "barycentric", "depth"):
            assert torch.equal(getattr(together[b], name), getattr(alone, name))
        same = here.face_index == alone.face_index.cpu()
        assert same.float().mean() > 0.9995
        torch.testing.assert_close(alone.depth.cpu()[same], here.depth[same], atol=2e-5, rtol=0)


def test_a_sheet_has_no_cracks_and_ties_go_to_the_lower_index():
    n, size = 32, 200
    g = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(n + 1.0), torch.arange(n + 1.0), indexing="ij")
    moved = 0.9 * (torch.rand(2, n + 1, n + 1, generator=g) - 0.5)
    moved[:, [0, -1]] = moved[:, :, [0, -1]] = 0
    pixel = (torch.stack([x, y]) + moved).reshape(2, -1).T * size / n
    z = 1 + 0.3 * torch.rand(len(pixel), 1, generator=g)
    corner = (torch.arange(n)[:, None] * (n + 1) + torch.arange(n)).reshape(-1)
    a, b, c, d = corner, corner + 1, corner + n + 2, corner + n + 1
    faces = torch.cat([torch.stack([a, b, c], 1), torch.stack([c, d, a], 1)])
    clip = torch.cat([pixel * z, z, z], 1)
    sheet = rasterize_mesh(clip.cuda(), faces.cuda(), (size, size))
    assert sheet.mask.all()
    twice = rasterize_mesh(clip.cuda(), torch.cat([faces, faces]).cuda(), (size, size))
    assert torch.equal(twice.face_index, sheet.face_index)
