"""uv_splat_pyramid: level 0 is uv_splat, every coarser level is sums of the finer, natively as in torch."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.kernels.uv_splat import uv_splat, uv_splat_pyramid
from tests.kernels.test_uv_splat import BACKENDS, points


def pyramid_and_grads(
    inputs: Sequence[Tensor | None], size: tuple[int, int], levels: int, backend: str
) -> list[Tensor]:
    """All maps, then the gradient of each of values, uv, weight and extra that is given."""
    values, uv, weight, extra = (t if t is None else t.clone().requires_grad_() for t in inputs)
    assert values is not None and uv is not None
    maps = uv_splat_pyramid(values, uv, size, levels, weight=weight, extra=extra, backend=backend)
    outs = [out for pair in maps for out in pair if out is not None]
    g = torch.Generator().manual_seed(5)
    total = sum((o * torch.randn(o.shape, generator=g).to(o)).sum() for o in outs)
    assert isinstance(total, Tensor)
    leaves = [t for t in (values, uv, weight, extra) if t is not None]
    return [*(o.detach() for o in outs), *torch.autograd.grad(total, leaves)]


def pyramid_inputs(P: int = 900, C: int = 5, E: int = 2) -> list[Tensor]:
    (values, uv), (extra, _) = points(2, P, C), points(2, P, E, seed=4)
    return [values, uv, torch.rand(2, P, generator=torch.Generator().manual_seed(6)), extra]


def exact(uv: Tensor) -> Tensor:
    """The same places moved a little, so that single precision places them in maps of up to 1024 texels, a
    power of two, exactly, and none on a line between texel centres, where the gradient jumps."""
    return ((uv * 4096).floor() + 0.5) / 4096


def pooled(image: Tensor, level: int) -> Tensor:
    """Sums of 2^level by 2^level texels, in double."""
    return F.avg_pool2d(image.double(), 1 << level, divisor_override=1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("size", "levels"), [((32, 48), 4), ((6, 10), 2), ((12, 20), 3), ((5, 7), 1)])
def test_a_pyramid_is_the_finest_level_and_its_sums(
    size: tuple[int, int], levels: int, backend: str, vector_width: int
) -> None:
    values, uv, weight, extra = pyramid_inputs()
    maps = uv_splat_pyramid(values, uv, size, levels, weight=weight, extra=extra, backend=backend)
    assert len(maps) == levels
    for columns, of_levels in zip((values, extra), zip(*maps, strict=True), strict=True):
        weighted = columns * weight[..., None]
        alone = uv_splat(weighted, uv, size, backend=backend)
        torch.testing.assert_close(of_levels[0], alone, atol=3e-6 * float(alone.abs().max()), rtol=0)
        for level, got in enumerate(of_levels):
            assert got is not None and got.shape[2:] == (size[0] >> level, size[1] >> level)
            wanted = pooled(of_levels[0], level)
            # 2e-7 seen: 64 float32 sums in another order
            torch.testing.assert_close(got.double(), wanted, atol=1e-6 * float(wanted.abs().max()), rtol=0)
    plain = uv_splat_pyramid(values, uv, size, levels, backend=backend)
    assert all(extras is None for _, extras in plain)
    assert torch.equal(plain[0][0], uv_splat(values, uv, size, backend=backend))


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_level_has_the_mass_of_what_was_splatted(backend: str) -> None:
    values, uv, weight, extra = pyramid_inputs(3000)
    uv = 0.5 / 32 + (1 - 1 / 32) * uv.clamp(0, 1)  # at least half a texel inside
    for sums, extras in uv_splat_pyramid(
        values, uv, (32, 32), 6, weight=weight, extra=extra, backend=backend
    ):
        assert extras is not None
        for out, columns in ((sums, values), (extras, extra)):
            mass = (columns * weight[..., None]).sum(1)
            torch.testing.assert_close(out.sum((2, 3)), mass, atol=2e-4, rtol=0)  # 3e-5 seen


def sampled(grads: list[Tensor], uv: Tensor) -> Tensor:  # [B, P, C]
    """The adjoint of a pyramid of sums: every level repeated over its texels, all added, read bilinearly."""
    total = sum(F.interpolate(g, scale_factor=1 << level) for level, g in enumerate(grads))
    assert isinstance(total, Tensor)
    read = F.grid_sample(total, 2 * uv[:, None] - 1, padding_mode="zeros", align_corners=False)
    return read[:, :, 0].transpose(1, 2)


@pytest.mark.parametrize(("backend", "bound"), [("torch", 1e-14), ("native", 1e-6)])  # 4e-17, 2e-9 seen
def test_a_pyramid_is_the_adjoint_of_sampling_its_levels(backend: str, bound: float) -> None:
    values, uv, weight, _ = (t.double() for t in pyramid_inputs())
    dtype = torch.float32 if backend == "native" else torch.float64
    maps = uv_splat_pyramid(
        values.to(dtype), uv.to(dtype), (24, 16), 4, weight=weight.to(dtype), backend=backend
    )
    g = torch.Generator().manual_seed(1)
    grads = [torch.randn(sums.shape, generator=g, dtype=torch.float64) for sums, _ in maps]
    splatted = sum(float((sums * grad).sum()) for (sums, _), grad in zip(maps, grads, strict=True))
    back = values * weight[..., None] * sampled(grads, uv)
    assert abs(splatted - float(back.sum())) < bound * float(back.abs().sum())


def test_gradcheck_of_a_pyramid_away_from_the_kinks() -> None:
    g = torch.Generator().manual_seed(2)
    inside = torch.randint(-1, 4, (1, 9, 2), generator=g) + 0.6 + 0.8 * torch.rand(1, 9, 2, generator=g)
    columns = torch.randn(1, 9, 5, generator=g)
    inputs = [t.double().requires_grad_() for t in (columns[..., :2], inside / 4, *columns.split(2, -1)[1:])]

    def run(values: Tensor, uv: Tensor, extra: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        maps = uv_splat_pyramid(values, uv, (4, 4), 3, weight=weight[..., 0], extra=extra)
        return tuple(part for pair in maps for part in pair if part is not None)

    assert torch.autograd.gradcheck(run, inputs, atol=1e-9)


def test_pyramid_gradients_of_native_are_those_of_the_reference(vector_width: int) -> None:
    inputs = pyramid_inputs()
    wanted = pyramid_and_grads([t.double() for t in inputs], (32, 48), 4, "torch")
    for got, expected in zip(pyramid_and_grads(inputs, (32, 48), 4, "native"), wanted, strict=True):
        torch.testing.assert_close(got.double(), expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize(
    ("P", "C", "E", "size", "levels"),
    [
        (1, 1, 1, (8, 8), 4),
        (2000, 17, 2, (256, 64), 4),  # many bands
        (300, 200, 1, (32, 256), 5),  # slices of the channels, bands of a few rows
        (1500, 3, 2, (32, 1024), 6),  # one texel high at the coarsest
        (500, 4, 2, (6, 10), 2),
        (500, 33, 1, (12, 20), 3),
        (0, 4, 2, (16, 16), 3),
    ],
)
@pytest.mark.parametrize("squeeze", [1.0, 0.02])
def test_pyramids_in_bands(
    P: int, C: int, E: int, size: tuple[int, int], levels: int, squeeze: float, vector_width: int
) -> None:
    """Every sum and gradient, spread over the map or in a crowd, where bands are of one row."""
    values, uv, weight, extra = pyramid_inputs(P, C, E)
    assert_equals_reference([values, exact(0.4 + squeeze * (uv - 0.5)), weight, extra], size, levels)


@pytest.mark.parametrize("given", [(), ("weight",), ("extra",)])
def test_pyramids_with_less(given: tuple[str, ...]) -> None:
    values, uv, weight, extra = pyramid_inputs(600)
    parts = weight if "weight" in given else None, extra if "extra" in given else None
    assert_equals_reference([values, exact(uv), *parts], (32, 16), 3)


def assert_equals_reference(inputs: Sequence[Tensor | None], size: tuple[int, int], levels: int) -> None:
    doubled = [t if t is None else t.double() for t in inputs]
    for got, wanted in zip(
        pyramid_and_grads(inputs, size, levels, "native"),
        pyramid_and_grads(doubled, size, levels, "torch"),
        strict=True,
    ):
        atol = 3e-6 * float(wanted.abs().amax()) + 1e-12 if wanted.numel() else 0.0
        torch.testing.assert_close(got.double(), wanted, atol=atol, rtol=0)


def test_a_pyramid_has_the_same_bits_for_any_number_of_threads(with_threads: None) -> None:
    values, uv, weight, extra = pyramid_inputs(5000, 7)
    inputs = values, uv**3, weight, extra  # crowded in one corner
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(pyramid_and_grads(inputs, (64, 32), 4, "native"))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_views_of_a_pyramid_do_not_touch_each_other() -> None:
    inputs = pyramid_inputs(700)
    both = pyramid_and_grads(inputs, (32, 16), 3, "native")
    for b in range(2):
        values, uv, weight, extra = (t[b : b + 1] for t in inputs)
        alone = uv_splat_pyramid(values, uv, (32, 16), 3, weight=weight, extra=extra)
        outs = [out for pair in alone for out in pair]
        for got, one in zip(both[:6], outs, strict=True):
            assert one is not None and torch.equal(got[b : b + 1], one)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loss_on_one_level_alone(backend: str) -> None:
    _, uv, weight, extra = inputs = [t.double() for t in pyramid_inputs()]
    dtype = torch.float32 if backend == "native" else torch.float64
    leaves = [t.to(dtype).clone().requires_grad_() for t in inputs]
    _, (_, extras), _ = uv_splat_pyramid(
        leaves[0], leaves[1], (16, 16), 3, weight=leaves[2], extra=leaves[3], backend=backend
    )
    assert extras is not None
    got = torch.autograd.grad(extras.square().sum(), leaves[1:], allow_unused=True)
    finest = uv_splat(extra * weight[..., None], uv, (16, 16))
    expected = 2 * sampled([torch.zeros_like(finest), pooled(finest, 1)], uv) * weight[..., None]
    assert got[2] is not None
    torch.testing.assert_close(got[2].double(), expected, atol=2e-5 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_point_of_no_weight_is_not_there(backend: str, vector_width: int) -> None:
    inputs = pyramid_inputs()
    values, _, weight, extra = inputs
    weight[:, :50] = 0
    values[:, :50], extra[:, :50] = 0, 0
    clean = pyramid_and_grads(inputs, (8, 8), 2, backend)
    values[:, :50], extra[:, :50] = float("nan"), float("inf")
    for a, b in zip(pyramid_and_grads(inputs, (8, 8), 2, backend), clean, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_broken_value_stays_in_its_own_texels_of_every_level(backend: str, vector_width: int) -> None:
    # at 8 texels x = 2, y = 1: one of them; and 4.5, 4.5: four of them, which are one of the next level
    uv, broken = torch.tensor([[[2.5 / 8, 1.5 / 8], [5.0 / 8, 5.0 / 8]]]), torch.full((1, 2, 1), float("nan"))
    maps = uv_splat_pyramid(broken, uv, (8, 8), 3, extra=broken, backend=backend)
    hits = (
        [[1, 2], [4, 4], [4, 5], [5, 4], [5, 5]],
        [[0, 1], [2, 2]],
        [[0, 0], [1, 1]],
    )
    for (sums, extras), hit in zip(maps, hits, strict=True):
        assert extras is not None
        for out in (sums, extras):
            assert out[0, 0].isnan().nonzero().tolist() == hit and not out[~out.isnan()].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_values_with_many_extra_columns(dtype: torch.dtype) -> None:
    values, uv, weight, extra = pyramid_inputs(E=5)
    inputs = [values.to(dtype), uv, weight, extra]
    got = pyramid_and_grads(inputs, (16, 8), 3, "auto")
    exact_ones = pyramid_and_grads([values.to(dtype).float(), uv, weight, extra], (16, 8), 3, "auto")
    assert [t.dtype for t in got] == [torch.float32] * 6 + [dtype] + [torch.float32] * 3
    assert all(torch.equal(a, b.to(a)) for a, b in zip(got, exact_ones, strict=True))
