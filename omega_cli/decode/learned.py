"""The decoder with what was found out about one person: the analytic Gaussians, their fit, their network."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from omega_cli.decode.analytic import Decoded
from omega_cli.decode.network import SHAPE, AvatarDecoder, UVLayout, uv_inputs
from omega_cli.decode.residual import Change, changed, moved
from omega_cli.decode.texture import seen_share
from omega_cli.gaussians.model import Gaussians

Changes = tuple[Change, Change]  # of N texels and V vertices


def learned_change(
    net: AvatarDecoder,
    base: Decoded,
    layout: UVLayout,
    features: Tensor,  # [C, R, R]
    weight: Tensor,  # [1, R, R]
    identity: Tensor,  # [D]
    fitted: Changes | None = None,
) -> Changes:
    """What the network says of the N texels' and the V vertices' Gaussians, on top of what was fitted."""
    shape = torch.zeros(SHAPE, *base.covered.shape, device=features.device)
    texture = base.texture
    if fitted is not None:
        shape[:, base.covered] = fitted[0].shape().T
        texture = with_colours(base, base.uv.colors[:, :3] + fitted[0].colors[:, :3])
    inputs = uv_inputs(features, seen_share(weight), texture, shape, layout)
    on_map, at_vertices = net(inputs[None], identity[None], layout.vertex_uv)
    on_texels = (on_map[0].float() * layout.free)[:, base.covered].T
    return Change.of(on_texels), Change.of(at_vertices[0].float() * layout.vertex_free[:, None])


def with_colours(base: Decoded, colours: Tensor) -> Tensor:  # [N, 3] -> [3, R, R]
    """The texture with the texels' colours."""
    texture = base.texture.clone()
    texture[:, base.covered] = colours.detach().T.to(texture)
    return texture


def applied(
    base: Decoded, texels: Change, vertices_change: Change, vertices: Tensor, faces: Tensor
) -> tuple[Gaussians, Gaussians]:
    """The Gaussians of both branches with their changes; vertices [V, 3] m, canonical."""
    uv = changed(base.uv, texels)
    shift = texels.shift()
    if shift is not None:
        uv = moved(uv, shift, vertices, faces, base.face_index)
    return uv, changed(base.vertex, vertices_change)


def refine_decoded(
    base: Decoded,
    changes: Changes,
    vertices: Tensor,  # [V, 3] m, canonical
    faces: Tensor,  # [F, 3]
    fitted: Changes | None = None,
) -> Decoded:
    """The analytic Gaussians with all changes applied."""
    if fitted is not None:
        changes = changes[0].plus(fitted[0]), changes[1].plus(fitted[1])
    uv, vertex = applied(base, *changes, vertices, faces)
    return replace(base, uv=uv, vertex=vertex, texture=with_colours(base, uv.colors[:, :3]))


def decode_learned(
    net: AvatarDecoder,
    base: Decoded,
    layout: UVLayout,
    features: Tensor,  # [C, R, R]
    weight: Tensor,  # [1, R, R]
    identity: Tensor,  # [D]
    vertices: Tensor,  # [V, 3] m, canonical
    faces: Tensor,  # [F, 3]
    fitted: Changes | None = None,
) -> Decoded:
    """`learned_change` applied. An untrained network gives the base as it was fitted: the same numbers, 32
    channels.

    Differentiable to the network and to `features`.
    """
    with torch.autocast(features.device.type, torch.bfloat16, enabled=features.is_cuda):
        changes = learned_change(net, base, layout, features, weight, identity, fitted)
    return refine_decoded(base, changes, vertices, faces, fitted)
