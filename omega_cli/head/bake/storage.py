"""Writes the head npz: bases as int16 with one scale a component, zip entries with fixed dates."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np


def pack_basis(key: str, basis: np.ndarray) -> dict[str, np.ndarray]:
    """[V, 3, K] -> int16 with "<key>_scale" [K]; the error is 1/65534 of a component's largest entry."""
    scale = np.maximum(np.abs(basis).max((0, 1)), 1e-12) / 32767
    return {key: np.round(basis / scale).astype(np.int16), f"{key}_scale": scale.astype(np.float32)}


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Like np.savez_compressed, with nothing in the file that depends on the clock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(arrays):
            buffer = io.BytesIO()
            np.save(buffer, np.asarray(arrays[name], order="C"), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, buffer.getvalue())
