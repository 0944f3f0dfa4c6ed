"""Conversion of a user's own files into the formats that omega reads."""

from __future__ import annotations

import io
from pathlib import Path

from omega_cli.avatar import folders
from omega_cli.errors import OmegaError
from omega_cli.weights import cache_folder, entry


def import_flame(pickle: Path, name: str) -> Path:
    """Official FLAME pickle to the npz of registry entry `name` in the cache; returns its path."""
    import numpy as np

    from omega_cli.head.assets import convert_flame_pickle

    if not pickle.is_file():
        raise OmegaError(f"{pickle} is not a file.", entry(name).origin)
    arrays = convert_flame_pickle(pickle)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    with folders.writing_file(cache_folder() / entry(name).file) as scratch:
        scratch.write_bytes(buffer.getvalue())
    return cache_folder() / entry(name).file
