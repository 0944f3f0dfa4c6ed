"""Linear blend skinning of a small joint tree (the W(...) of paper Eq. 1)."""

from __future__ import annotations

import torch
from torch import Tensor


def joint_transforms(
    rotations: Tensor,  # [T, J, 3, 3] local
    joints: Tensor,  # [J, 3] or [T, J, 3] rest positions, m
    parents: tuple[int, ...],  # parents[0] < 0; a parent comes before its children
) -> tuple[Tensor, Tensor]:  # posed joints [T, J, 3] m; [T, J, 3, 4] rest -> posed
    """Compose local rotations about the rest joints down the tree."""
    at = joints[..., None]
    local = torch.cat([rotations, at - rotations @ at], dim=-1)  # x -> R (x - joint) + joint
    blocks, placed = [local[:, :1]], [local[:, :1]]
    for start, stop, parent in _siblings(parents):
        above = placed[parent]
        block = above[..., :3] @ local[:, start:stop]
        block = torch.cat([block[..., :3], block[..., 3:] + above[..., 3:]], dim=-1)
        blocks.append(block)
        placed += block.split(1, dim=1)
    transforms = torch.cat(blocks, dim=1)
    return (transforms[..., :3] @ at + transforms[..., 3:]).squeeze(-1), transforms


def _siblings(parents: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Runs (start, stop, parent) of neighbouring joints with one parent; the root is left out."""
    runs: list[tuple[int, int, int]] = []
    for j, parent in enumerate(parents[1:], start=1):
        if runs and runs[-1][2] == parent:
            runs[-1] = (runs[-1][0], j + 1, parent)
        else:
            runs.append((j, j + 1, parent))
    return runs


def skin(
    vertices: Tensor,  # [T, V, 3] or [1, V, 3] rest, m
    transforms: Tensor,  # [T, J, 3, 4]
    weights: Tensor,  # [V, J], rows sum to 1
) -> Tensor:  # [T, V, 3] m
    """Move every vertex by its weighted mean transform."""
    T, J = transforms.shape[:2]
    blended = (weights @ transforms.reshape(T, J, 12)).view(T, -1, 3, 4)
    out = blended[..., 3]
    for k in range(3):  # a column at a time: no [T, V, 3, 3] of products to write and read again
        out = torch.addcmul(out, blended[..., k], vertices[..., k, None])
    return out
