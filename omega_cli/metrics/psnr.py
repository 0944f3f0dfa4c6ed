"""Peak signal to noise ratio."""

from __future__ import annotations

from torch import Tensor

from omega_cli.metrics.pairs import check_pair, region_mean


def psnr(
    a: Tensor,  # [B, 3, H, W] in [0, 1]
    b: Tensor,  # [B, 3, H, W]
    mask: Tensor | None = None,  # [B, 1, H, W]
) -> Tensor:  # [B]
    """10 log10(1 / MSE) in dB, the peak being 1. Equal pictures give infinity, an empty mask NaN.

    Each picture has its own value (the literature averages those, not the MSE). With a mask the MSE is the
    mean over the mask: a small head is not flattered by its background.
    """
    check_pair(a, b, mask)
    squares = (a.double() - b.double()).square()
    error = region_mean(squares, None if mask is None else mask.double())
    return (-10 * error.log10()).to(a.dtype if a.dtype.itemsize >= 4 else squares.float().dtype)
