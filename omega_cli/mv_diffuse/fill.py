"""Filling what was not seen: push-pull on images, harmonic interpolation on the mesh."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.sparse import solve


def push_pull(
    values: Tensor,  # [C, H, W]
    weight: Tensor,  # [1, H, W] in [0, 1]
) -> Tensor:  # [C, H, W]
    """Fill where weight is low from ever coarser averages (Gortler et al. 1996, push-pull).

    A texel of weight 1 keeps its value exactly; a map of weight 0 everywhere gives zeros.
    """
    height, width = values.shape[-2:]
    if height <= 1 and width <= 1:
        return values * (weight > 0)
    pad = (0, width % 2, 0, height % 2)
    v, w = F.pad(values * weight, pad), F.pad(weight, pad)
    coarse_w = F.avg_pool2d(w[None], 2)[0]
    coarse_v = F.avg_pool2d(v[None], 2)[0] / coarse_w.clamp_min(1e-8)
    coarse = push_pull(coarse_v, (coarse_w * 4).clamp_max(1))
    up = F.interpolate(coarse[None], size=v.shape[-2:], mode="bilinear", align_corners=False)[0]
    return weight * values + (1 - weight) * up[..., :height, :width]


def harmonic_fill(
    values: np.ndarray,  # [V, C]
    confidence: np.ndarray,  # [V] >= 0, in units of neighbour links
    edges: np.ndarray,  # [E, 2]
    domain: np.ndarray,  # [V] bool
    pull: float = 1e-6,  # towards the mean, in units of neighbour links
    device: torch.device | str = "cpu",  # that solves
) -> np.ndarray:  # [V, C]
    """Smoothest vertex field on `domain` that agrees with `values` where confidence is high.

    Solves (diag(confidence) + L) x = diag(confidence) values on the mesh graph restricted to `domain`:
    it knows nothing of UV seams. Vertices outside keep their values. `pull` draws everything to the
    confidence-weighted mean: further than about pull^-1/2 links from what is known the mean prevails.
    """
    index = np.flatnonzero(domain)
    out = values.astype(np.float64).copy()
    if len(index) == 0:
        return out
    local = np.full(len(domain), -1)
    local[index] = np.arange(len(index))
    e = local[edges]
    e = e[(e >= 0).all(1)]
    n = len(index)
    ones = np.ones(len(e))
    adjacency = sp.coo_matrix((np.r_[ones, ones], (np.r_[e[:, 0], e[:, 1]], np.r_[e[:, 1], e[:, 0]])), (n, n))
    laplacian = sp.diags(np.asarray(adjacency.sum(1)).ravel()) - adjacency
    c = confidence[index].astype(np.float64)
    mean = (c[:, None] * out[index]).sum(0) / max(c.sum(), 1e-12)
    system = (laplacian + sp.diags(c + pull)).tocsc()
    out[index] = solve(system, c[:, None] * out[index] + pull * mean, device)
    return out
