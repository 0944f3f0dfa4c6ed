"""uv_splat proven four ways: adjoint, gradcheck, native = reference, invariants."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.kernels import reference
from omega_cli.kernels.uv_splat import _uv_splat_levels, _uv_splat_levels_backward, uv_splat

BACKENDS = ["native", "torch"]


def points(B: int, P: int, C: int, spill: float = 0.3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random values and uv, some of them outside the map by up to `spill`."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(B, P, C, generator=g), torch.rand(B, P, 2, generator=g) * (1 + 2 * spill) - spill


def splat_and_grads(values: Tensor, uv: Tensor, size: tuple[int, int], backend: str) -> list[Tensor]:
    values, uv = values.clone().requires_grad_(), uv.clone().requires_grad_()
    out = uv_splat(values, uv, size, backend=backend)
    g = torch.randn(out.shape, generator=torch.Generator().manual_seed(5)).to(out)
    return [out.detach(), *torch.autograd.grad((out * g).sum(), (values, uv))]


@pytest.mark.parametrize("backend", BACKENDS)
def test_texel_centre_lands_wholly_in_its_texel(backend: str) -> None:
    H, W = 5, 7
    row, column = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    uv = torch.stack([(column + 0.5) / W, (row + 0.5) / H], -1).reshape(1, -1, 2)
    values = torch.arange(1.0, H * W + 1).reshape(1, -1, 1)
    out = uv_splat(values, uv, (H, W), backend=backend)
    torch.testing.assert_close(out, values.reshape(1, 1, H, W), atol=2e-5, rtol=0)  # 6e-6 seen


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_point_between_four_texels(backend: str) -> None:
    uv = torch.tensor([[[1.25 / 4, 2.0 / 4]]])  # x = 0.75, y = 1.5 in texel centres
    out = uv_splat(torch.ones(1, 1, 1), uv, (4, 4), backend=backend)[0, 0]
    expected = torch.zeros(4, 4)
    expected[1, 0], expected[1, 1], expected[2, 0], expected[2, 1] = 0.125, 0.375, 0.125, 0.375
    torch.testing.assert_close(out, expected, atol=0, rtol=0)


def test_reference_is_the_adjoint_of_sampling_in_double() -> None:
    values, uv = (t.double() for t in points(2, 300, 5))
    g = torch.randn(2, 5, 9, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    splatted = (uv_splat(values, uv, (9, 13)) * g).sum()
    sampled = F.grid_sample(g, 2 * uv[:, None] - 1, padding_mode="zeros", align_corners=False)
    assert abs(splatted - (values * sampled[:, :, 0].transpose(1, 2)).sum()) < 1e-12 * 300


def test_gradcheck_away_from_the_kinks() -> None:
    g = torch.Generator().manual_seed(2)
    cell = torch.randint(-1, 5, (2, 12, 2), generator=g)
    inside = 0.1 + 0.8 * torch.rand(2, 12, 2, generator=g, dtype=torch.float64)  # never near a centre line
    uv = ((cell + 0.5 + inside) / torch.tensor([5.0, 4.0], dtype=torch.float64)).requires_grad_()
    values = torch.randn(2, 12, 3, generator=g, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v, u: uv_splat(v, u, (4, 5)), (values, uv), atol=1e-9)


@pytest.mark.parametrize("C", [1, 3, 4, 32, 33, 64, 256])
def test_native_equals_reference(C: int, vector_width: int) -> None:
    for B, P, size in ((1, 1, (1, 1)), (2, 500, (13, 17)), (1, 4000, (64, 5)), (3, 50, (1, 40))):
        values, uv = points(B, P, C, seed=C)
        for got, wanted in zip(
            splat_and_grads(values, uv, size, "native"),
            splat_and_grads(values, uv, size, "torch"),
            strict=True,
        ):
            # 4e-7 of the largest seen: float32 sums in another order
            torch.testing.assert_close(got, wanted, atol=3e-6 * float(wanted.abs().max()) + 1e-12, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_and_all_outside(backend: str) -> None:
    empty = uv_splat(torch.zeros(2, 0, 3), torch.zeros(2, 0, 2), (4, 6), backend=backend)
    assert empty.shape == (2, 3, 4, 6) and not empty.any()
    values, uv = points(1, 50, 3)
    out, by_values, by_uv = splat_and_grads(values, uv + 3, (4, 6), backend)
    assert not out.any() and not by_values.any() and not by_uv.any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_points_that_are_not_finite(backend: str, vector_width: int) -> None:
    values, uv = points(1, 40, 3, spill=0)
    clean = uv_splat(values[:, 4:], uv[:, 4:], (8, 8), backend=backend)
    broken = uv.clone()
    broken[0, :4, 0] = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e30])
    out, by_values, by_uv = splat_and_grads(values, broken, (8, 8), backend)
    torch.testing.assert_close(out, clean, atol=1e-6, rtol=0)
    assert not by_values[0, :4].any() and not by_uv[0, :4].any()
    assert by_values.isfinite().all() and by_uv.isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_value_stays_in_its_own_texels(backend: str, value: float, vector_width: int) -> None:
    # 8 texels: (i + 1/2) / 8 is exact in binary, so the first point has one texel, the second has four
    uv = torch.tensor([[[2.5 / 8, 1.5 / 8], [5.0 / 8, 6.0 / 8], [2.0, 0.5]]])
    values = torch.full((1, 3, 2), value)
    values[..., 1] = 1.0
    out = uv_splat(values, uv, (8, 8), backend=backend)[0]
    hit = ~out[0].isfinite()
    assert hit.nonzero().tolist() == [[1, 2], [5, 4], [5, 5], [6, 4], [6, 5]]
    assert out[1].isfinite().all() and not out[0][~hit].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_mass_is_kept_and_order_is_irrelevant(backend: str) -> None:
    values, uv = points(2, 3000, 4, spill=0)
    uv = uv * (1 - 1 / 8) + 0.5 / 8  # at least half a texel inside
    out = uv_splat(values, uv, (8, 8), backend=backend)
    torch.testing.assert_close(out.sum((2, 3)), values.sum(1), atol=2e-4, rtol=0)  # 4e-5 seen
    order = torch.randperm(3000, generator=torch.Generator().manual_seed(3))
    again = uv_splat(values[:, order], uv[:, order], (8, 8), backend=backend)
    torch.testing.assert_close(again, out, atol=3e-5, rtol=0)  # 8e-6 seen, sums of about 50 values


@pytest.mark.parametrize("backend", BACKENDS)
def test_mirrored_coordinates_mirror_the_map(backend: str) -> None:
    values, uv = points(1, 400, 3)
    out = uv_splat(values, uv, (16, 16), backend=backend)
    across = torch.stack([1 - uv[..., 0], uv[..., 1]], -1)
    mirrored = uv_splat(values, across, (16, 16), backend=backend)
    torch.testing.assert_close(mirrored.flip(-1), out, atol=2e-5, rtol=0)


def test_batched_is_one_by_one_and_strides_do_not_matter() -> None:
    values, uv = points(3, 200, 5)
    out = uv_splat(values, uv, (9, 9), backend="native")
    one = torch.cat([uv_splat(values[b : b + 1], uv[b : b + 1], (9, 9), backend="native") for b in range(3)])
    assert torch.equal(out, one)
    strided = values.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    wide = torch.cat([uv, uv], -1)[..., 1:3].flip(-1)
    assert not strided.is_contiguous()
    assert torch.equal(uv_splat(strided, wide, (9, 9), backend="native"), out)
    for backend in BACKENDS:
        for a, b in zip(
            splat_and_grads(strided, wide, (9, 9), backend),
            splat_and_grads(values, uv, (9, 9), backend),
            strict=True,
        ):
            assert torch.equal(a, b)


def test_the_same_bits_for_any_number_of_threads(with_threads: None) -> None:
    values, uv = points(2, 5000, 7)
    uv = uv**3  # crowded in one corner
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(splat_and_grads(values, uv, (33, 31), "native"))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("given", [(), ("weight",), ("extra",), ("weight", "extra")])
def test_operator_is_well_formed(given: tuple[str, ...]) -> None:
    values, uv = points(2, 30, 3)
    weight = torch.rand(2, 30) if "weight" in given else None
    extra = torch.randn(2, 30, 2) if "extra" in given else None
    inputs = values, uv, weight, extra
    sizes = [(6, 4), (3, 2)]
    grads = [torch.randn(2, *size, C) for C in (3, *((2,) if extra is not None else ())) for size in sizes]
    wanted = [True, False, weight is not None, False]
    torch.library.opcheck(_uv_splat_levels_backward.overload, (grads, *inputs, 6, 4, 2, wanted))
    leaves = [t if t is None else t.requires_grad_() for t in inputs]
    torch.library.opcheck(_uv_splat_levels.overload, (*leaves, 6, 4, 2))


def test_doubles_go_to_the_reference_and_native_refuses_them() -> None:
    values, uv = (t.double() for t in points(1, 20, 2))
    expected = reference.uv_splat(values, uv, (4, 4)).permute(0, 3, 1, 2)
    assert torch.equal(uv_splat(values, uv, (4, 4)), expected)
    with pytest.raises(ValueError, match=r"float32 CPU or CUDA tensors, got torch\.float64"):
        uv_splat(values, uv, (4, 4), backend="native")
    with pytest.raises(ValueError, match=r"uv \[B, P, 2\], got \(1, 20, 2\), \(1, 19, 2\)"):
        uv_splat(values, uv[:, 1:], (4, 4))


def test_native_is_the_adjoint_of_sampling(vector_width: int) -> None:
    """Over shapes that cut the map into bands, and channels into slices, in every way."""
    for P, C, size in ((3000, 5, (64, 48)), (2000, 200, (40, 96)), (500, 300, (7, 130)), (4000, 2, (3, 700))):
        values, uv = points(2, P, C, seed=P)
        g = torch.randn(2, C, *size, generator=torch.Generator().manual_seed(1))
        splatted = (uv_splat(values, uv, size, backend="native").double() * g).sum()
        sampled = F.grid_sample(g, 2 * uv[:, None] - 1, padding_mode="zeros", align_corners=False)
        back = values.double() * sampled[:, :, 0].transpose(1, 2)
        assert abs(splatted - back.sum()) < 1e-6 * float(back.abs().sum())  # 3e-8 seen


def test_crowds_and_large_maps_on_the_cpu(vector_width: int) -> None:
    """Bands of one row and of many, all points in one texel, rows without any."""
    for size, squeeze in (((512, 512), 1.0), ((512, 8), 1e-4), ((8, 512), 0.01), ((257, 129), 0.0)):
        values, uv = points(1, 6000, 33, spill=0.05)
        uv = 0.5 + squeeze * (uv - 0.5)
        for got, wanted in zip(
            splat_and_grads(values, uv, size, "native"),
            splat_and_grads(values.double(), uv.double(), size, "torch"),
            strict=True,
        ):
            atol = 2e-5 * float(wanted.abs().max()) + 1e-12  # float32 positions of up to 512 texels
            torch.testing.assert_close(got.double(), wanted, atol=atol, rtol=0)


@pytest.mark.parametrize("backend", [*BACKENDS, "auto"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_values_are_summed_in_float32(backend: str, dtype: torch.dtype) -> None:
    values, uv = points(2, 3000, 6)
    values = values.to(dtype)
    got = splat_and_grads(values, uv, (8, 8), backend)
    exact = splat_and_grads(values.float(), uv, (8, 8), backend)
    assert [t.dtype for t in got] == [torch.float32, dtype, torch.float32]
    assert torch.equal(got[0], exact[0]) and torch.equal(got[2], exact[2])
    assert torch.equal(got[1], exact[1].to(dtype))


@pytest.mark.parametrize("backend", BACKENDS)
def test_sizes_beyond_32_bits_are_refused(backend: str) -> None:
    """Before anything as large is made."""
    values, uv = torch.zeros(1, 1, 1), torch.zeros(1, 1, 2)
    many = values.expand(1, 1 << 31, 1), uv.expand(1, 1 << 31, 2)
    with pytest.raises(ValueError, match="points: 2147483648 is too many, the limit is 2147483647"):
        uv_splat(*many, (4, 4), backend=backend)
    with pytest.raises(ValueError, match=r"texels: .* is too many, the limit is 2147483647"):
        uv_splat(values, uv, (1 << 16, 1 << 15), backend=backend)
    with pytest.raises(ValueError, match=r"channels: .* is too many"):
        uv_splat(values.expand(1, 1, 1 << 31), uv, (1, 1), backend=backend)
