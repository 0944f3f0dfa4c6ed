"""PSNR and SSIM against published values, their definitions written out elsewhere, and their invariants."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from omega_cli.metrics.psnr import psnr
from omega_cli.metrics.ssim import LUMA, ssim


def pictures(B: int = 3, H: int = 40, W: int = 52, seed: int = 0) -> Tensor:
    """Smooth noise [B, 3, H, W] in [0, 1]: has structure at the scale of a window."""
    noise = np.random.default_rng(seed).random((B, 3, H, W))
    smooth = ndimage.gaussian_filter(noise, (0, 0, 2, 2))
    low, high = smooth.min(), smooth.max()
    return torch.from_numpy(((smooth - low) / (high - low)).astype(np.float32))


def noisy(a: Tensor, amount: float, seed: int = 1) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return (a + amount * torch.randn(a.shape, generator=g, dtype=a.dtype)).clamp(0, 1)


def test_psnr_of_the_torchmetrics_example() -> None:
    """preds [[0, 1], [2, 3]], target [[3, 2], [1, 0]], range 3: 2.5527 in torchmetrics' documentation."""
    a = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).expand(1, 3, 2, 2) / 3
    b = torch.tensor([[3.0, 2.0], [1.0, 0.0]]).expand(1, 3, 2, 2) / 3
    assert psnr(a, b).item() == pytest.approx(2.5527, abs=5e-5)


@pytest.mark.parametrize("offset", [0.5, 0.1, 0.01, 0.001])
def test_psnr_of_a_known_offset(offset: float) -> None:
    a = torch.full((2, 3, 8, 8), 0.25)
    assert psnr(a, a + offset) == pytest.approx(-20 * math.log10(offset), abs=1e-3)


def test_ssim_of_the_torchmetrics_example() -> None:
    """rand([3, 3, 256, 256]) against 0.75 of it: 0.9219 in torchmetrics' documentation (seed 42 there)."""
    torch.manual_seed(42)
    a = torch.rand(3, 3, 256, 256)
    assert ssim(a, a * 0.75).mean().item() == pytest.approx(0.9219, abs=5e-5)


def scipy_ssim(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None = None) -> float:
    """SSIM of [H, W] by its definition, in float64: Gaussian 11 / 1.5, valid windows."""

    def mean(x: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(x, 1.5, truncate=5 / 1.5)[5:-5, 5:-5]

    a, b = a.astype(np.float64), b.astype(np.float64)
    mu_a, mu_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mu_a**2, mean(b * b) - mu_b**2
    cov = mean(a * b) - mu_a * mu_b
    top = (2 * mu_a * mu_b + 1e-4) * (2 * cov + 9e-4)
    bottom = (mu_a**2 + mu_b**2 + 1e-4) * (var_a + var_b + 9e-4)
    weights = None if mask is None else mask[5:-5, 5:-5]
    return float(np.average(top / bottom, weights=weights))


@pytest.mark.parametrize("masked", [False, True])
def test_ssim_is_its_definition(masked: bool) -> None:
    a = pictures().double()
    b = noisy(a, 0.1)
    mask = (pictures(seed=2)[:, :1] > 0.5).double() if masked else None
    keep = np.ones_like(a.numpy()[:, :1]) if mask is None else mask.numpy()
    expected = [
        np.mean([scipy_ssim(x * m[0], y * m[0], m[0]) for x, y in zip(xs, ys)])
        for xs, ys, m in zip(a.numpy(), b.numpy(), keep)
    ]
    assert ssim(a, b, mask).numpy() == pytest.approx(np.array(expected), abs=1e-12)
    single = ssim(a.float(), b.float(), None if mask is None else mask.float())
    assert single.numpy() == pytest.approx(np.array(expected), abs=1e-5)
    luma = np.tensordot(LUMA, a.numpy()[0], 1), np.tensordot(LUMA, b.numpy()[0], 1)
    assert ssim(a[:1], b[:1], grey=True).item() == pytest.approx(scipy_ssim(*luma), abs=1e-12)


def test_ssim_of_flat_pictures_is_their_luminance_term() -> None:
    a, b = torch.full((1, 3, 16, 16), 0.2), torch.full((1, 3, 16, 16), 0.6)
    assert ssim(a, b).item() == pytest.approx((0.24 + 1e-4) / (0.4 + 1e-4), abs=1e-5)


def test_equal_pictures() -> None:
    a = pictures()
    assert torch.isinf(psnr(a, a)).all() and (psnr(a, a) > 0).all()
    assert ssim(a, a) == pytest.approx(1.0, abs=1e-6)
    black = torch.zeros(1, 3, 16, 16)
    assert ssim(black, black).item() == 1.0


@pytest.mark.parametrize("metric", [psnr, ssim])
class TestBoth:
    def test_more_noise_is_worse(self, metric) -> None:
        a = pictures()
        values = torch.stack([metric(a, noisy(a, amount)) for amount in (0.01, 0.03, 0.1, 0.3)])
        assert (values.diff(dim=0) < 0).all()

    def test_a_batch_is_each_pair_alone(self, metric) -> None:
        a = pictures(4)
        b = noisy(a, 0.1)
        mask = pictures(4, seed=2)[:, :1]
        for m in (None, mask):
            alone = [
                metric(a[i : i + 1], b[i : i + 1], None if m is None else m[i : i + 1]) for i in range(4)
            ]
            assert torch.allclose(metric(a, b, m), torch.cat(alone), atol=1e-6)

    def test_order_does_not_matter(self, metric) -> None:
        a, b = pictures(), pictures(seed=3)
        assert torch.allclose(metric(a, b), metric(b, a), atol=1e-6)

    def test_a_mask_of_ones_is_no_mask(self, metric) -> None:
        a = pictures()
        b = noisy(a, 0.1)
        assert torch.allclose(metric(a, b, torch.ones(3, 1, 40, 52)), metric(a, b), atol=1e-6)

    def test_what_lies_outside_the_mask_does_not_matter(self, metric) -> None:
        a = pictures()
        b = noisy(a, 0.1)
        mask = torch.zeros(3, 1, 40, 52)
        mask[:, :, 8:30, 10:40] = 1
        other = torch.where(mask > 0, b, pictures(seed=9))
        assert torch.equal(metric(a, b, mask), metric(a, other, mask))
        assert not torch.allclose(metric(a, b), metric(a, other), atol=1e-3)

    def test_an_empty_mask_has_no_value(self, metric) -> None:
        a = pictures()
        mask = torch.ones(3, 1, 40, 52)
        mask[1] = 0
        values = metric(a, noisy(a, 0.1), mask)
        assert torch.isnan(values).tolist() == [False, True, False]

    def test_no_pairs(self, metric) -> None:
        none = torch.zeros(0, 3, 16, 16)
        assert metric(none, none).shape == (0,)

    def test_half_precision_answers_float32(self, metric) -> None:
        a = pictures().half()
        b = noisy(pictures(), 0.1).half()
        assert metric(a, b).dtype == torch.float32
        assert torch.allclose(metric(a, b), metric(a.float(), b.float()), atol=1e-5)

    def test_the_gradient_is_the_slope(self, metric) -> None:
        a = pictures(1, 14, 15).double()
        b = noisy(a, 0.1).clamp(0.05, 0.95).requires_grad_()
        assert torch.autograd.gradcheck(lambda x: metric(a, x), (b,), eps=1e-6, atol=1e-5)

    @pytest.mark.parametrize(
        ("a", "b", "mask", "words"),
        [
            (
                torch.zeros(2, 3, 16, 16),
                torch.full((2, 3, 16, 16), 255.0),
                None,
                r"b must be in \[0, 1\].* 255",
            ),
            (
                torch.full((2, 3, 16, 16), -1.0),
                torch.zeros(2, 3, 16, 16),
                None,
                r"a must be in \[0, 1\].* -1",
            ),
            (torch.full((2, 3, 16, 16), math.nan), torch.zeros(2, 3, 16, 16), None, "a must be .* nan"),
            (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), torch.zeros(2, 3, 16, 16), None, "divide bytes"),
            (torch.zeros(3, 16, 16), torch.zeros(3, 16, 16), None, r"\[B, 3, H, W\], got \[3, 16, 16\]"),
            (torch.zeros(2, 3, 16, 16), torch.zeros(2, 3, 16, 17), None, "one shape"),
            (torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16), torch.ones(1, 16, 16), "mask must be"),
            (torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16), torch.full((1, 1, 16, 16), 255.0), "mask"),
            (
                torch.zeros(1, 3, 16, 16),
                torch.zeros(1, 3, 16, 16),
                torch.ones(1, 1, 16, 16).bool(),
                "floating",
            ),
        ],
    )
    def test_wrong_input_is_named(self, metric, a, b, mask, words) -> None:
        with pytest.raises(ValueError, match=words):
            metric(a, b, mask)


def test_a_picture_smaller_than_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 11 px"):
        ssim(torch.zeros(1, 3, 10, 20), torch.zeros(1, 3, 10, 20))
    with pytest.raises(ValueError, match="window must be odd"):
        ssim(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16), window=8)
