"""The encoder as a file, and the frozen transformer that one kind of encoder reads."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from omega_cli.splat_uv.dino import Backbone, DinoConfig, DinoEncoder
from omega_cli.splat_uv.encoder import Encoder, EncoderConfig
from omega_cli.weights import dinov3_folder
from omega_cli.weights.network_file import NetworkFile


def make_encoder(config: EncoderConfig | DinoConfig) -> Encoder | DinoEncoder:
    """Untrained; that of a DinoConfig has no backbone yet."""
    return DinoEncoder(config) if isinstance(config, DinoConfig) else Encoder(config)


def _of_sizes(sizes: dict[str, Any]) -> Encoder | DinoEncoder:
    return make_encoder(DinoConfig(**sizes) if "backbone" in sizes else EncoderConfig(**sizes))


ENCODER = NetworkFile("avatar_encoder", "avatar encoder", _of_sizes)


def read_backbone(folder: str = "", device: str = "cpu") -> tuple[Backbone, Path]:
    """The DINOv3 in the user's `folder`, or "": where omega looks for one; and its weights' file.

    Kept for the next avatar. Raises OmegaError where there is none, or something else, or no transformers.
    """
    path = dinov3_folder.find(folder) / dinov3_folder.WEIGHTS
    stat = path.stat()
    return _backbone(path, stat.st_size, stat.st_mtime_ns, device), path


@functools.lru_cache(maxsize=1)
def _backbone(path: Path, size: int, modified: int, device: str) -> Backbone:
    found = dinov3_folder.read(path.parent)
    return Backbone(found.net.to(device), found.config, found.sha256)
