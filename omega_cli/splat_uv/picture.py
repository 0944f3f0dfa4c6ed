"""Pictures of a UV feature map, to look at."""

from __future__ import annotations

import torch
from torch import Tensor


def coverage_picture(weight: Tensor) -> Tensor:  # [1, R, R] -> [3, R, R]
    """Dark blue: never seen; through green to yellow: seen well. A log scale, two decades."""
    level = (1 + torch.log10((weight[0] / weight.max().clamp_min(1e-6)).clamp_min(1e-2)) / 2).clamp(0, 1)
    stops = weight.new_tensor([[0.12, 0.10, 0.30], [0.13, 0.48, 0.56], [0.99, 0.91, 0.14]])
    low, high = (2 * level).clamp(max=1), (2 * level - 1).clamp_min(0)
    mix = stops[0] + (stops[1] - stops[0]) * low[..., None] + (stops[2] - stops[1]) * high[..., None]
    return mix.permute(2, 0, 1)


def pca_picture(features: Tensor, weight: Tensor) -> Tensor:  # [C, R, R], [1, R, R] -> [3, R, R]
    """The three strongest directions of the seen texels' features as colours; unseen texels black."""
    seen = weight[0] > 0
    flat = features.flatten(1).T
    chosen = flat[seen.flatten()]
    if len(chosen) < 4:
        return features.new_zeros(3, *features.shape[1:])
    mean, spread = chosen.mean(0), chosen.std(0).clamp_min(1e-6)
    normalised = (chosen - mean) / spread
    _, vectors = torch.linalg.eigh(normalised.T @ normalised)
    axes = vectors[:, -3:].flip(1)
    # An axis has no sign of its own: fix it so that the same map always gives the same picture.
    axes = axes * torch.where(axes.sum(0) < 0, -1.0, 1.0)
    scores = (((flat - mean) / spread) @ axes).T.reshape(3, *features.shape[1:])
    span = scores[:, seen].std(1)[:, None, None].clamp_min(1e-6)
    return ((scores / (4 * span)) + 0.5).clamp(0, 1) * seen
