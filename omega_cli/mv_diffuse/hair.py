"""Hair texture for what the photo did not see, made from the hair that it did see.

The head is charted as (angle about the crown axis, arc from the crown): hair grows from the crown and
falls along the second axis, so photo detail moved within the chart keeps its flow. Detail is the photo's
hair minus its blur; patches of it are blended with weights whose squares sum to one, which keeps the
variance of the texture (Heitz and Neyret 2018, "High-Performance By-Example Noise").
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..kernels.uv_splat import uv_splat
from . import blur

CROWN_AXIS = (0.0, 0.94, -0.34)  # whorl: above and behind the centre of the skull
SKULL_CENTRE = (0.0, 0.035, -0.015)  # m, head frame
CHART = (448, 800)  # rows along the arc, columns about the axis
ARC_LENGTH = 0.40  # m covered by the rows
PATCH = (72, 40)  # longer along the strands than across
ENOUGH = 400  # places for a patch's centre; with fewer the same patch comes again and again, like scales
BLUR = 11.0  # px: what is coarser than this is colour, not texture


def chart_coordinates(points: Tensor) -> Tensor:  # [N, 3] m -> [N, 2] in [0, 1]: (angle, arc)
    """Angle 0.5 is the forehead; arc 0 is the crown. Below the ears the arc goes on straight down."""
    axis = points.new_tensor(CROWN_AXIS)
    axis = axis / axis.norm()
    right = points.new_tensor([1.0, 0.0, 0.0])
    front = torch.linalg.cross(right, axis)
    d = points - points.new_tensor(SKULL_CENTRE)
    up = d @ axis
    a, b = d @ right, d @ front
    angle = torch.atan2(a, b) / (2 * math.pi) + 0.5
    polar = torch.atan2((a * a + b * b).sqrt(), up)
    skull = 0.1 * polar.clamp_max(math.pi / 2)
    hanging = torch.where(polar > math.pi / 2, -up, torch.zeros_like(up))
    # thick hair lies further out, but its strands are as long as the arc they follow
    return torch.stack([angle, ((skull + hanging) / ARC_LENGTH).clamp(0, 1)], -1)


def photo_detail(rgb: Tensor, hair: Tensor) -> Tensor:  # [3, H, W], [1, H, W] -> [3, H, W]
    """Fine texture of the hair: the photo minus its blur within the hair, outliers clipped at 3 sigma."""
    detail = (rgb - blur.within(rgb, hair, BLUR)) * hair
    inside = hair.expand_as(detail) > 0.5
    spread = detail[inside].std() if inside.sum() > 8 else detail.new_zeros(())
    limit = 3 * float(spread) + 1e-6
    return detail.clamp(-limit, limit)


def synthesise_chart(
    detail: Tensor,  # [N, 3] fine texture at N hair pixels of the photo
    coordinates: Tensor,  # [N, 2] their chart coordinates
    generator: torch.Generator,
) -> Tensor:  # [3, rows, columns], zero mean
    """Texture over the whole chart from the part that the photo shows.

    Patches of the known part are drawn at random, turned so that their strands run down the arc, and
    blended, variance kept. Too little known hair gives procedural strands of the same contrast.
    """
    rows, columns = CHART
    exemplar, known = chart_exemplar(detail, coordinates)
    spread = detail.std(0, keepdim=True).T[..., None] if len(detail) > 8 else detail.new_zeros(3, 1, 1)
    spots, turns = patch_sources(exemplar, known, generator)
    if len(spots) == 0:
        return strands(generator).to(spread) * spread

    height, width = PATCH
    window = torch.outer(_hann(height), _hann(width)).to(exemplar)
    step = height // 2, width // 2
    down, across = math.ceil(rows / step[0]), math.ceil(columns / step[1])
    picks = torch.randint(len(spots), (down * across,), generator=generator).to(spots.device)
    patches = turned_patches(exemplar, spots[picks], turns[picks])
    # A mean that they share would show the grid: the windows' sum, unlike that of their squares, varies.
    patches = window * (patches - (window * patches).sum((2, 3), keepdim=True) / window.sum())
    parts = torch.cat([patches, (window**2).expand(len(patches), 1, -1, -1)], 1)
    covered = (down + 1) * step[0], (across + 1) * step[1]
    total = F.fold(parts.flatten(1).T[None], covered, PATCH, stride=step)[0]
    # the angle is periodic: what overhangs on the right belongs to the left edge
    over = covered[1] - columns
    total = torch.cat([total[..., :over] + total[..., columns:], total[..., over:columns]], -1)[:, :rows]
    chart = total[:3] / total[3].sqrt().clamp_min(1e-4)
    return chart * (spread / chart.std(dim=(1, 2), keepdim=True).clamp_min(1e-6)).clamp(0.3, 2.0)


def chart_exemplar(detail: Tensor, coordinates: Tensor) -> tuple[Tensor, Tensor]:
    """The photo's detail on the chart [3, rows, columns] and where it is known [1, rows, columns]."""
    ones = detail.new_ones(len(detail), 1)
    splat = uv_splat(torch.cat([detail, ones], 1)[None], coordinates[None], CHART)[0]
    smooth = F.avg_pool2d(splat[None], 3, 1, 1)[0]
    sharp = splat[3:] > 0.35
    filled = torch.where(
        sharp, splat[:3] / splat[3:].clamp_min(1e-6), smooth[:3] / smooth[3:].clamp_min(1e-6)
    )
    known = (smooth[3:] > 0.2).float()
    return filled * known, known


def patch_sources(exemplar: Tensor, known: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Centres [M, 2] (row, column) of wholly known patches and the turn [M] (rad) of their strands.

    The turn comes from the structure tensor; patches with a clear direction are preferred. None where too
    little is known.
    """
    grey = exemplar.mean(0)
    gy, gx = torch.gradient(grey)
    reach = min(PATCH) // 2 * 2 + 1
    xx, yy, xy = blur.box(torch.stack([gx * gx, gy * gy, gx * gy]), reach, reach)
    # gradients run across strands: the strand direction is at right angles to the main axis
    across = 0.5 * torch.atan2(2 * xy, xx - yy)
    clear = ((xx - yy) ** 2 + 4 * xy**2).sqrt() / (xx + yy).clamp_min(1e-9)
    side = max(PATCH) // 2 * 2 + 1
    inside = blur.box(known, side, side)[0] > 0.85
    spots = torch.nonzero(inside)
    if len(spots) < ENOUGH:
        return spots[:0], across.new_zeros(0)
    weight = clear[inside] ** 2 + 1e-3
    stride = max(1, len(spots) // 20000)
    picks = torch.multinomial(weight[::stride].cpu(), 400, replacement=True, generator=generator)
    picks = picks.to(spots.device) * stride
    return spots[picks], across[inside][picks]


def turned_patches(exemplar: Tensor, centres: Tensor, turns: Tensor) -> Tensor:
    """Patches [M, 3, *PATCH] cut at `centres`, turned by `turns` so that strands run down the rows."""
    rows, columns = exemplar.shape[1:]
    y, x = torch.meshgrid(*(torch.arange(n, device=turns.device) - (n - 1) / 2 for n in PATCH), indexing="ij")
    c, s = turns.cos()[:, None, None], turns.sin()[:, None, None]
    px = centres[:, 1, None, None] + c * x - s * y
    py = centres[:, 0, None, None] + s * x + c * y
    grid = torch.stack([(px + 0.5) / columns, (py + 0.5) / rows], -1) * 2 - 1
    flat = grid.reshape(1, len(centres), -1, 2)
    picked = F.grid_sample(exemplar[None], flat, padding_mode="zeros", align_corners=False)[0]
    return picked.reshape(3, len(centres), *PATCH).transpose(0, 1)


def strands(generator: torch.Generator) -> Tensor:  # [3, rows, columns], zero mean, unit variance
    """Procedural strands: noise stretched along the arc in three widths, the same in all channels."""
    rows, columns = CHART
    out = torch.zeros(1, rows, columns)
    for width, gain in ((1, 1.0), (3, 0.8), (8, 0.6)):
        noise = torch.randn(1, 1, rows + 64, columns, generator=generator)
        around = F.pad(noise, (width, width, 0, 0), mode="circular")[0]
        noise = blur.box(around, 65, 2 * width + 1)[:, 32:-32, width:-width]
        out = out + gain * noise / noise.std()
    return (out / out.std()).expand(3, -1, -1)


def read_chart(chart: Tensor, coordinates: Tensor) -> Tensor:  # [3, R, C], [N, 2] -> [N, 3]
    """Bilinear, periodic in the angle."""
    columns = chart.shape[2]
    wrapped = torch.cat([chart[:, :, -1:], chart, chart[:, :, :1]], dim=2)
    x = (coordinates[:, 0] * columns + 1) / (columns + 2)
    grid = torch.stack([x, coordinates[:, 1]], -1) * 2 - 1
    return F.grid_sample(wrapped[None], grid[None, None], padding_mode="border", align_corners=False)[
        0, :, 0
    ].T


def _hann(n: int) -> Tensor:
    return torch.sin(math.pi * (torch.arange(n) + 0.5) / n) ** 2 + 1e-3
