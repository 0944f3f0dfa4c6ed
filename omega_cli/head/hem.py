"""The edge where the bust's neck was cut: what is drawn there fades out."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from omega_cli.head.model import HeadModel

HEM_FADE = 0.005  # m, ours: the bust's cut edge fades out over this length


def hem_share(
    means: Tensor,  # [N, 3] m, canonical
    vertices: Tensor,  # [V, 3] m, canonical
    head: HeadModel,
    fade: float = HEM_FADE,  # m
) -> Tensor:  # [N] in [0, 1]
    """What is left of each opacity: 0 on the edge where the neck was cut, 1 from `fade` on."""
    rim = hem_edges(head)
    if not len(rim):
        return torch.ones_like(means[:, 0])
    ends = vertices[rim]  # [n, 2, 3]
    along = torch.linspace(0, 1, 9, device=ends.device)[:, None, None]  # the edges are up to 1 cm long
    line = torch.lerp(ends[:, 0], ends[:, 1], along).flatten(0, 1)
    near = torch.nonzero(means[:, 1] < line[:, 1].max() + fade).flatten()
    away = torch.full_like(means[:, 0], fade)
    away[near] = torch.cat([torch.cdist(means[part], line).amin(1) for part in near.split(8192)])
    share = (away / fade).clamp(0, 1)
    return share * share * (3 - 2 * share)


@functools.lru_cache(maxsize=4)
def hem_edges(head: HeadModel) -> Tensor:  # [n, 2] long
    """The open edge of the neck: edges of one face only, on the skin's lower part. Once for each head."""
    sides = torch.cat([head.faces[:, [0, 1]], head.faces[:, [1, 2]], head.faces[:, [2, 0]]])
    pairs, count = sides.sort(1).values.unique(dim=0, return_counts=True)
    low = head.v_template[:, 1] < (head.J_regressor[1] @ head.v_template)[1]
    if "skin" in head.regions:  # the mouth's bag has open edges too
        low = low & head.regions["skin"]
    return pairs[(count == 1) & low[pairs].all(1)]
