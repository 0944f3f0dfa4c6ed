"""The decoder as a file, and whether it fits a head and a canonical map."""

from __future__ import annotations

from collections.abc import Collection

from omega_cli.decode.network import AvatarDecoder, DecoderConfig
from omega_cli.head.model import HeadModel
from omega_cli.weights.network_file import Loaded, NetworkFile

DECODER = NetworkFile("avatar_decoder", "avatar decoder", lambda sizes: AvatarDecoder(DecoderConfig(**sizes)))


def misfit(
    decoder: Loaded[AvatarDecoder],
    head: HeadModel,
    channels: int,  # of the map
    size: int,  # texels, its side
    identity: int,  # numbers of the identity vector
    digests: Collection[str],  # "sha256:..." of the weights that made the map, as far as known
) -> str:
    """Why a decoder cannot work on this map of this head; '' where it can."""
    wanted, about = decoder.net.config, decoder.about
    vertices = len(head.v_template)
    if wanted.vertices != vertices:
        return f"it knows a head of {wanted.vertices} vertices, this one has {vertices}"
    if about.get("head", head.sha256) != head.sha256:
        return "it was trained on another head"
    if wanted.features != channels:
        return f"it reads maps of {wanted.features} channels, this one has {channels}"
    if wanted.identity != identity:
        return f"it reads identity vectors of {wanted.identity} numbers, this one has {identity}"
    step = 2 ** (len(wanted.channels) - 1)
    if size % step:
        return f"it works on maps whose side is a multiple of {step}, this one has {size}"
    encoder = about.get("encoder")
    if encoder and digests and f"sha256:{encoder}" not in digests:
        return "it was trained with another encoder than the one that made this map"
    return ""
