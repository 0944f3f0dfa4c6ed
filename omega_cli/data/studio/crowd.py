"""Several people side by side in one set of tensors, posed and ready to be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from omega_cli.data.studio.people import Person
from omega_cli.geometry.mesh import vertex_normals
from omega_cli.head.model import HeadModel
from omega_cli.head.params import HeadParams


@dataclass(frozen=True)
class Crowd:
    """P people of one head model. N: the head's vertices V and the longest list of extras E; the shorter are
    filled with zeros that no face names.

    canonical [P, V, 3] m; extras [P, E, 14]: vertex, normal, tangent, sRGB, uv of the strand detail; roots
    [P, E]; labels [P, N] uint8; visible [P, N, D]; faces: each person's own [F_p, 3]; corners [sum F, 3]: the
    same as rows of [P * N]; firsts [P]: where each one's faces begin; kinds [sum F] uint8 (`people.KINDS`);
    texels [P * S * S, 8]: `Paint.texels`; face_labels [P * S * S]; detail [P * R * C], shape (R, C).
    """

    model: HeadModel
    canonical: Tensor
    extras: Tensor
    roots: Tensor
    labels: Tensor
    visible: Tensor
    faces: list[Tensor]
    corners: Tensor
    firsts: Tensor
    kinds: Tensor
    texels: Tensor
    face_labels: Tensor
    detail: Tensor
    texture_size: int
    detail_shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.canonical)

    @property
    def N(self) -> int:
        """Vertices of each person, fillers counted."""
        return self.visible.shape[1]


def _side_by_side(parts: list[Tensor]) -> Tensor:
    """[P, longest, ...], filled with zeros; one alone is not copied."""
    return parts[0][None] if len(parts) == 1 else pad_sequence(parts, batch_first=True)


def _in_a_row(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def assemble(people: Sequence[Person]) -> Crowd:
    """People on one device, with textures of one size."""
    first, faces = people[0], [p.faces for p in people]
    if any(p.model.sha256 != first.model.sha256 or len(p.canonical) != len(first.canonical) for p in people):
        raise ValueError("people drawn together must have one head model")
    if any(p.paint.texels.shape != first.paint.texels.shape for p in people):
        raise ValueError("people drawn together must have textures of one size")
    visible = _side_by_side([p.visible for p in people])
    counts = [len(f) for f in faces]
    firsts = torch.tensor([sum(counts[:i]) for i in range(len(counts))])
    return Crowd(
        model=first.model,
        canonical=_side_by_side([p.canonical for p in people]),
        extras=_side_by_side([p.extras.table for p in people]),
        roots=_side_by_side([p.extras.roots for p in people]),
        labels=_side_by_side([p.vertex_labels for p in people]),
        visible=visible,
        faces=faces,
        corners=_in_a_row([f + p * visible.shape[1] if p else f for p, f in enumerate(faces)]),
        firsts=firsts.to(visible.device),
        kinds=_in_a_row([p.kinds for p in people]),
        texels=_in_a_row([p.paint.texels for p in people]),
        face_labels=_in_a_row([p.paint.labels.flatten() for p in people]),
        detail=_in_a_row([p.detail.flatten() for p in people]),
        texture_size=first.paint.size,
        detail_shape=(first.detail.shape[1], first.detail.shape[2]),
    )


@dataclass(frozen=True)
class Posed:
    """Of P people: vertices, normals [P, N, 3] world of the heads and, after them, the extras; tangents
    [P, E, 3] of the extras; rotation [P, 3, 3]: canonical head to world."""

    vertices: Tensor
    normals: Tensor
    tangents: Tensor
    rotation: Tensor


def pose_crowd(crowd: Crowd, params: HeadParams) -> Posed:
    """Expression and pose, a frame for each person (params.betas is not read: people have their own)."""
    model, P = crowd.model, len(crowd)
    if len(params) != P:
        raise ValueError(f"params must have one frame for each of {P} people, got {len(params)}")
    out = model.animate(crowd.canonical, params)
    skinning = (model.weights @ out.affine.flatten(2)).view(P, -1, 3, 4)  # as of the roots, so of the extras
    moved = (params.expression @ model.exprdirs.flatten(0, 1).T).view(P, -1, 3, 1)
    offset = torch.arange(P, device=crowd.roots.device)[:, None] * moved.shape[1]
    table = torch.cat([skinning, moved], 3).view(-1, 15)
    own = table.index_select(0, (crowd.roots + offset).flatten()).view(P, -1, 3, 5)
    rest, normals, tangents = crowd.extras[..., :9].split(3, dim=2)
    vertices = _turned(own, rest + own[..., 4]) + own[..., 3]
    return Posed(
        torch.cat([out.vertices, vertices], 1),
        torch.cat([vertex_normals(out.vertices, model.faces), F.normalize(_turned(own, normals), dim=-1)], 1),
        F.normalize(_turned(own, tangents), dim=-1),
        out.affine[:, 1, :, :3] / params.scale,
    )


def _turned(matrices: Tensor, vectors: Tensor) -> Tensor:
    """[..., 3, >= 3] on [..., 3], a column at a time: products of tiny matrices are slow."""
    x, y, z = vectors.split(1, dim=-1)
    out = torch.addcmul(matrices[..., 0] * x, matrices[..., 1], y)
    return torch.addcmul(out, matrices[..., 2], z)
