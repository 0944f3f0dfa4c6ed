"""The analytic decoder: UV map and head to two sets of Gaussians, with nothing learned."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from omega_cli.decode.colours import complete_texture
from omega_cli.decode.surface import (
    covering_texels,
    face_footprints,
    texel_gaussians,
    vertex_gaussians,
    vertex_spacing,
    vertex_uvs,
)
from omega_cli.decode.texture import sample_uv, sharpen
from omega_cli.gaussians.model import Gaussians
from omega_cli.head.model import HeadModel
from omega_cli.head.parts import PARTS, face_parts


@dataclass(frozen=True)
class Decoded:
    """Both branches in the canonical world; the UV branch with the surface point it is bound to.

    vertex: V Gaussians, the i-th at vertex i. uv: N Gaussians; face_index [N], barycentric [N, 3].
    texture [3, R, R]: the completed colours; covered [R, R] bool: the N texels, in reading order.
    """

    vertex: Gaussians
    uv: Gaussians
    face_index: Tensor
    barycentric: Tensor
    texture: Tensor
    covered: Tensor


def decode_surface(
    model: HeadModel,
    vertices: Tensor,  # [V, 3] m, canonical
    eye_centres: Tensor,  # [2, 3] m
    features: Tensor,  # [C, R, R], RGB first
    weight: Tensor,  # [1, R, R]
    *,
    texel_sigma: float = 0.6,
    opacity: float = 0.995,
    vertex_opacity: float = 0.4,
) -> Decoded:
    """One Gaussian per covered texel and one per vertex (paper 3.3's two branches).

    Lashes are left out: the photo shows them on lid and eye, and there they move with the lid.
    """
    size = features.shape[-1]
    part = face_parts(model)
    drawn = part != PARTS.index("lashes")
    face_index, barycentric = covering_texels(model.uvs, model.uv_faces, size)
    face_index = torch.where(drawn[face_index.clamp_min(0)], face_index, -1)
    texture = complete_texture(model, vertices, eye_centres, features[:3], weight, face_index, barycentric)
    covered = face_index >= 0
    skin = covered & (part[face_index.clamp_min(0)] == 0)
    for alike in (skin, covered & ~skin):  # no ringing from lips into the mouth
        texture = sharpen(texture, alike[None].to(texture), texel_sigma)
    faces_of, where = face_index[covered], barycentric[covered]
    footprints = face_footprints(vertices, model.faces, model.uvs, model.uv_faces, size)
    colors = texture[:, covered].T
    mouth = torch.isin(part, part.new_tensor([PARTS.index(n) for n in ("teeth", "tongue", "mouth_inside")]))
    opacities = colors.new_full((len(colors),), opacity)
    uv = texel_gaussians(
        vertices, model.faces, footprints, faces_of, where, colors, opacities, texel_sigma, mouth
    )
    uv_of_vertex = vertex_uvs(model.faces, model.uvs, model.uv_faces, len(vertices))
    used = torch.zeros(len(vertices), dtype=torch.bool, device=vertices.device)
    used[model.faces[drawn].flatten()] = True
    spacing = vertex_spacing(footprints.extent, model.faces, len(vertices))
    vertex = vertex_gaussians(
        vertices,
        model.faces,
        sample_uv(texture, uv_of_vertex),
        vertex_opacity * used.to(vertices),
        spacing,
        texel_sigma,
    )
    return Decoded(vertex, uv, faces_of, where, texture, covered)
