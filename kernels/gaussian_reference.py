"""Gaussian rasterisation in plain torch: the meaning of the native kernels, differentiable by autograd.

Conventions are gsplat's: EWA projection with a blur of 0.3 px^2, alpha below 1/255 dropped and above
0.999 clamped, a pixel finished before the Gaussian that would leave 1e-4 of light or less.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

TILE = 16
MIN_ALPHA, MAX_ALPHA, MIN_TRANSMITTANCE = 1 / 255, 0.999, 1e-4


class View(NamedTuple):
    """The camera, and what counts as visible."""

    viewmat: Tensor  # [4, 4] world -> camera
    K: Tensor  # [3, 3] px
    height: int
    width: int
    ortho: bool
    near_plane: float  # m
    blur: float  # px^2, added to the diagonal of the image covariance


def rotation_matrices(quats: Tensor) -> Tensor:  # [N, 4] wxyz, any length -> [N, 3, 3]
    w, x, y, z = (quats / quats.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def project(means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, view: View) -> Tensor:
    """Image splats [N, 8]: x, y (px), conic a, b, c, depth (m), box half sizes (px; no gradient).

    A Gaussian that is nearer than the near plane, fainter than 1/255, outside the image or not finite
    is a row of zeros.
    """
    whole = opacities.detach().isfinite() & (quats.detach().square().sum(-1) > 0)
    for given in (means, quats, scales):
        whole &= given.detach().isfinite().all(-1)
    # what is broken is replaced before it is used: its gradient is then 0, not 0 times NaN
    means, quats, scales = (torch.where(whole[:, None], given, 1.0) for given in (means, quats, scales))
    opacities = torch.where(whole, opacities, 0.0)
    R, t = view.viewmat[:3, :3].to(means), view.viewmat[:3, 3].to(means)
    K = view.K.to(means)
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    x, y, z = (means @ R.T + t).unbind(-1)
    safe_z = torch.ones_like(z) if view.ortho else torch.where(z.detach().abs() > 1e-12, z, 1e-12)
    zero = torch.zeros_like(z)
    if view.ortho:
        J = torch.stack([fx + zero, zero, zero, zero, fy + zero, zero], -1)
    else:
        u, v = x / safe_z, y / safe_z
        margin_u, margin_v = 0.15 * view.width / fx, 0.15 * view.height / fy
        u = u.clamp(-cx / fx - margin_u, (view.width - cx) / fx + margin_u)
        v = v.clamp(-cy / fy - margin_v, (view.height - cy) / fy + margin_v)
        J = torch.stack([fx / safe_z, zero, -fx * u / safe_z, zero, fy / safe_z, -fy * v / safe_z], -1)
    Q = J.reshape(-1, 2, 3) @ R @ (rotation_matrices(quats) * scales[:, None, :])
    covariance = Q @ Q.transpose(1, 2)
    A, B, D = covariance[:, 0, 0] + view.blur, covariance[:, 0, 1], covariance[:, 1, 1] + view.blur
    determinant = A * D - B * B
    px, py = fx * x / safe_z + cx, fy * y / safe_z + cy
    with torch.no_grad():
        reach = (2 * (255 * opacities).clamp_min(1.0).log()).sqrt()
        ex, ey = reach * A.sqrt() + 0.01, reach * D.sqrt() + 0.01
        seen = (z >= view.near_plane) & (opacities >= MIN_ALPHA) & (determinant > 0)
        seen &= (px + ex > 0.5) & (px - ex < view.width - 0.5)
        seen &= (py + ey > 0.5) & (py - ey < view.height - 0.5)
    splats = torch.stack([px, py, D / determinant, -B / determinant, A / determinant, z, ex, ey], -1)
    seen &= splats.detach().isfinite().all(-1)
    return torch.where(seen[:, None], splats, 0.0)


def tile_lists(splats: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """(starts [tiles + 1], entries): for each 16 x 16 tile its splats, nearest first."""
    columns, rows = -(-width // TILE), -(-height // TILE)
    splats = splats.detach()
    seen = splats[:, 6] > 0
    x, y, ex, ey = splats[:, 0], splats[:, 1], splats[:, 6], splats[:, 7]
    first_x = (x - ex - 0.5).ceil().clamp(0, width).long()
    last_x = (x + ex - 0.5).floor().clamp(-1, width - 1).long()
    first_y = (y - ey - 0.5).ceil().clamp(0, height).long()
    last_y = (y + ey - 0.5).floor().clamp(-1, height - 1).long()
    seen &= (last_x >= first_x) & (last_y >= first_y)
    index = seen.nonzero()[:, 0]
    index = index[torch.argsort(splats[index, 5], stable=True)]
    x0, y0 = first_x[index] // TILE, first_y[index] // TILE
    across, down = last_x[index] // TILE - x0 + 1, last_y[index] // TILE - y0 + 1
    counts = across * down
    owner = torch.repeat_interleave(torch.arange(len(index), device=index.device), counts)
    local = torch.arange(len(owner), device=index.device) - (counts.cumsum(0) - counts)[owner]
    tile = (y0[owner] + local // across[owner]) * columns + x0[owner] + local % across[owner]
    order = torch.argsort(tile, stable=True)
    starts = torch.zeros(columns * rows + 1, dtype=torch.int64, device=index.device)
    starts[1:] = torch.bincount(tile, minlength=columns * rows).cumsum(0)
    return starts, index[owner[order]].to(torch.int32)


def blend(
    splats: Tensor,  # [N, 8]
    opacities: Tensor,  # [N]
    colors: Tensor,  # [N, C]
    starts: Tensor,
    entries: Tensor,
    height: int,
    width: int,
) -> tuple[Tensor, Tensor]:
    """Front-to-back blending: image [C, H, W] over black, alpha [H, W]. A splat whose colour is not finite
    is left out."""
    whole = colors.detach().isfinite().all(-1)
    opacities, colors = torch.where(whole, opacities, 0.0), torch.where(whole[:, None], colors, 0.0)
    columns, rows = -(-width // TILE), -(-height // TILE)
    step = torch.arange(TILE, device=splats.device).to(splats) + 0.5
    bounds = starts.tolist()
    C = colors.shape[1]
    images, alphas = [], []
    for tile in range(columns * rows):
        pick = entries[bounds[tile] : bounds[tile + 1]].long()
        px = (step + tile % columns * TILE).expand(TILE, TILE).reshape(-1)
        py = (step + tile // columns * TILE)[:, None].expand(TILE, TILE).reshape(-1)
        x, y, a, b, c = (splats[pick, k, None] for k in range(5))
        dx, dy = px - x, py - y  # [n, 256]
        alpha = opacities[pick, None] * torch.exp(-0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy)
        alpha = alpha.clamp_max(MAX_ALPHA)
        alpha = torch.where(alpha < MIN_ALPHA, 0.0, alpha)
        with torch.no_grad():  # the cumulative product never rises again: what is finished stays so
            laid = (1 - alpha).cumprod(0) > MIN_TRANSMITTANCE
        alpha = torch.where(laid, alpha, 0.0)
        after = (1 - alpha).cumprod(0)
        light = torch.cat([after.new_ones(1, TILE * TILE), after])  # before each, and at last
        images.append(colors[pick].T @ (alpha * light[:-1]))  # [C, 256]
        alphas.append(1 - light[-1])
    image = torch.stack(images, 1).reshape(C, rows, columns, TILE, TILE)
    image = image.transpose(2, 3).reshape(C, rows * TILE, columns * TILE)
    alpha = torch.stack(alphas).reshape(rows, columns, TILE, TILE).transpose(1, 2)
    return image[:, :height, :width], alpha.reshape(rows * TILE, columns * TILE)[:height, :width]
