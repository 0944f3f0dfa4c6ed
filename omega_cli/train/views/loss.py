"""What the view network is trained on: colour, normal, alpha, and how alike it looks."""

from __future__ import annotations

import torch
from torch import Tensor

from omega_cli.metrics.lpips import Lpips

CHANNELS = (1.0, 1.0, 1.0, 0.7, 0.7, 0.7, 0.7)  # weights of rgb, normal, alpha  # ours


def pixel_loss(
    predicted: Tensor,  # [B, 6, 7, h, w]: rgb in [0, 1], normal in [-1, 1], alpha in [0, 1]
    truth: Tensor,  # the same
    weight: Tensor,  # [B, 6, 1, h, w]
) -> Tensor:
    """Weighted mean absolute error, colours and alpha on the scale of normals (2)."""
    scale = predicted.new_tensor([2 * c if i not in (3, 4, 5) else c for i, c in enumerate(CHANNELS)])
    error = (predicted - truth).abs() * scale.view(7, 1, 1)
    return (error * weight).sum() / (weight.sum() * len(CHANNELS)).clamp_min(1)


def perceptual_loss(
    lpips: Lpips,
    predicted: Tensor,  # [B, 6, 7, h, w]
    truth: Tensor,
    views: Tensor,  # [B, n] long: which views to look at
) -> Tensor:
    """Mean LPIPS of the chosen views' colour."""
    rows = torch.arange(len(views), device=views.device)[:, None]
    a, b = (t[rows, views, :3].flatten(0, 1) for t in (predicted, truth))
    return lpips.distance(a, b).mean()
