"""Linear blend skinning of a small joint tree (the W(...) of paper Eq. 1)."""

from __future__ import annotations

import torch
from torch import Tensor


def joint_transforms(
    rotations: Tensor,  # [T, J, 3, 3] local
    joints: Tensor,  # [J, 3] rest positions, m
    parents: tuple[int, ...],  # parents[0] < 0; a parent comes before its children
) -> tuple[Tensor, Tensor]:  # posed joints [T, J, 3] m; [T, J, 3, 4] rest -> posed
    """Compose local rotations about the rest joints down the tree."""
    R, t = [rotations[:, 0]], [joints[0] - rotations[:, 0] @ joints[0]]
    for j in range(1, len(parents)):
        p = parents[j]
        local = joints[j] - rotations[:, j] @ joints[j]  # x -> R (x - joint) + joint
        R.append(R[p] @ rotations[:, j])
        t.append((R[p] @ local[..., None]).squeeze(-1) + t[p])
    linear, shift = torch.stack(R, dim=1), torch.stack(t, dim=1)
    posed = (linear @ joints[..., None]).squeeze(-1) + shift
    return posed, torch.cat([linear, shift[..., None]], dim=-1)


def skin(
    vertices: Tensor,  # [T, V, 3] or [1, V, 3] rest, m
    transforms: Tensor,  # [T, J, 3, 4]
    weights: Tensor,  # [V, J], rows sum to 1
) -> Tensor:  # [T, V, 3] m
    """Move every vertex by its weighted mean transform."""
    T, J = transforms.shape[:2]
    blended = (weights @ transforms.reshape(T, J, 12)).reshape(T, -1, 3, 4)
    return (blended[..., :3] * vertices[..., None, :]).sum(-1) + blended[..., 3]
