"""Landmarks that live on the surface: a face and barycentric weights each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# MediaPipe's face contour from the forehead over the subject's left cheek to the chin and back.
FACE_OVAL: tuple[int, ...] = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
    148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
# For iBUG's points 17 to 67 the MediaPipe point of the same meaning; the jaw line (0 to 16) has none and is
# spaced evenly along the contour (see `jaw_line`).
IBUG_INNER = (
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,  # brows
    168, 197, 5, 4, 98, 97, 2, 326, 327,  # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91,  # outer lips
    78, 81, 13, 311, 308, 402, 14, 178,  # inner lips
)  # fmt: skip
RIGHT_IRIS, LEFT_IRIS = range(468, 473), range(473, 478)  # pupil, then four points of the rim


def jaw_line() -> list[list[int]]:
    """MediaPipe paths from the chin to each ear, right first: iBUG 8..0 and 8..16 lie evenly on them."""
    chin = FACE_OVAL.index(152)
    right = list(FACE_OVAL[chin : FACE_OVAL.index(127) + 1])
    left = list(FACE_OVAL[FACE_OVAL.index(356) : chin + 1])[::-1]
    return [right, left]


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
