"""Landmarks that live on the surface: a face and barycentric weights each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LandmarkEmbedding:
    """L points on the mesh.

    face_index [L] long; barycentric [L, 3], rows sum to 1; valid [L] bool: False where no trustworthy
    place was found (such a row still holds a legal face, so that indexing never fails).
    """

    face_index: Tensor
    barycentric: Tensor
    valid: Tensor

    def __len__(self) -> int:
        return self.face_index.shape[0]

    def to(self, device: torch.device | str) -> LandmarkEmbedding:
        return LandmarkEmbedding(
            self.face_index.to(device), self.barycentric.to(device), self.valid.to(device)
        )


def embed(vertices: Tensor, faces: Tensor, embedding: LandmarkEmbedding) -> Tensor:
    """Landmark positions [..., L, 3] of vertices [..., V, 3]."""
    corners = faces[embedding.face_index]  # [L, 3]
    picked = vertices.index_select(-2, corners.reshape(-1))
    picked = picked.reshape(*vertices.shape[:-2], *corners.shape, 3)
    return torch.einsum("...lkc,lk->...lc", picked, embedding.barycentric)
