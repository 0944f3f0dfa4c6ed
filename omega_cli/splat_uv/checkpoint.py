"""The encoder as a file."""

from __future__ import annotations

from omega_cli.splat_uv.encoder import Encoder, EncoderConfig
from omega_cli.weights.network_file import NetworkFile

ENCODER = NetworkFile("avatar_encoder", "avatar encoder", lambda sizes: Encoder(EncoderConfig(**sizes)))
