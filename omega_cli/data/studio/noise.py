"""Band-limited noise and smooth steps for painting textures."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor


def smoothstep(x: Tensor, low: float, high: float) -> Tensor:
    """0 below `low`, 1 above `high`, cubic between; low > high steps down."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def bump(x: Tensor, centre: float, width: float) -> Tensor:
    """Gaussian bell of standard deviation `width`."""
    return torch.exp(-0.5 * ((x - centre) / width) ** 2)


def ball(points: Tensor, centre: tuple[float, float, float], radius: float) -> Tensor:
    """[...] Gaussian bell about a place of the head; points [..., 3] m, both sides (|x|)."""
    shift = torch.stack(
        [points[..., 0].abs() - centre[0], points[..., 1] - centre[1], points[..., 2] - centre[2]], -1
    )
    return torch.exp(-0.5 * shift.square().sum(-1) / radius**2)


@functools.cache
def _rows(size: int, cells: int) -> Tensor:
    """[size, cells]: bicubic interpolation along one side as a matrix (what `F.interpolate` does there)."""
    return F.interpolate(torch.eye(cells)[None, None], (size, cells), mode="bicubic")[0, 0].contiguous()


def band_noise(size: int, cells: int, generator: torch.Generator) -> Tensor:
    """[size, size], about N(0, 1): nothing finer than 1 / `cells` of the map."""
    cells = min(cells, size)
    grid = torch.randn(cells, cells, generator=generator)
    if cells == size:
        return grid
    rows = _rows(size, cells)
    smooth = rows @ grid @ rows.T
    return smooth.div_(smooth.std().clamp_min(1e-6))


def skip_noise(size: int, cells: int, generator: torch.Generator) -> None:
    """Draw what `band_noise` would and drop it: the numbers after it stay the same."""
    torch.randn(min(cells, size), min(cells, size), generator=generator)


def strand_noise(rows: int, columns: int, length: int, generator: torch.Generator) -> Tensor:
    """[1, rows, columns] about N(0, 1): fine across the columns, drawn out over `length` rows."""
    grid = torch.randn(1, 1, max(2, rows // length), columns, generator=generator)
    fine = F.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False)[0]
    broad = torch.randn(1, 1, 2, max(2, columns // 6), generator=generator)
    fine = fine + 0.7 * F.interpolate(broad, size=(rows, columns), mode="bicubic", align_corners=False)[0]
    return (fine - fine.mean()) / fine.std()
