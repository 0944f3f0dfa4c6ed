"""The decoder with its network: the analytic Gaussians and what has been learned about them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from omega_cli.decode.analytic import Decoded
from omega_cli.decode.network import AvatarDecoder, UVLayout, uv_inputs
from omega_cli.decode.residual import Change, changed, moved
from omega_cli.decode.texture import seen_share


def learned_change(
    net: AvatarDecoder,
    base: Decoded,
    layout: UVLayout,
    features: Tensor,  # [C, R, R]
    weight: Tensor,  # [1, R, R]
    identity: Tensor,  # [D]
) -> tuple[Change, Change]:
    """What the network says of the N texels' and the V vertices' Gaussians."""
    inputs = uv_inputs(features, seen_share(weight), base.texture, layout)
    on_map, at_vertices = net(inputs[None], identity[None], layout.vertex_uv)
    return Change.of(on_map[0, :, base.covered].T.float()), Change.of(at_vertices[0].float())


def refine_decoded(
    base: Decoded, texels: Change, vertices_change: Change, vertices: Tensor, faces: Tensor
) -> Decoded:
    """The analytic Gaussians with both changes applied; vertices [V, 3] m, canonical."""
    uv = changed(base.uv, texels)
    shift = texels.shift()
    if shift is not None:
        uv = moved(uv, shift, vertices, faces, base.face_index)
    texture = base.texture.clone()
    texture[:, base.covered] = uv.colors[:, :3].T.to(texture)
    return replace(base, uv=uv, vertex=changed(base.vertex, vertices_change), texture=texture.detach())


def decode_learned(
    net: AvatarDecoder,
    base: Decoded,
    layout: UVLayout,
    features: Tensor,  # [C, R, R]
    weight: Tensor,  # [1, R, R]
    identity: Tensor,  # [D]
    vertices: Tensor,  # [V, 3] m, canonical
    faces: Tensor,  # [F, 3]
) -> Decoded:
    """`learned_change` applied. An untrained network gives the base: the same numbers, 32 channels.

    Differentiable to the network and to `features`.
    """
    with torch.autocast(features.device.type, torch.bfloat16, enabled=features.is_cuda):
        changes = learned_change(net, base, layout, features, weight, identity)
    return refine_decoded(base, *changes, vertices, faces)
