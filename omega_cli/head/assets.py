"""Head files: the committed open head, and official FLAME models converted once to npz (`flame.py`)."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from omega_cli.errors import OmegaError
from omega_cli.head.flame import convert_flame_pickle
from omega_cli.head.landmarks import LandmarkEmbedding
from omega_cli.head.model import HeadModel

__all__ = ["convert_flame_pickle", "load_head", "open_head_path"]

OPEN_HEAD = "open_head.npz"
_NEEDED = (
    "v_template", "shapedirs", "exprdirs", "J_regressor", "weights", "parents", "faces", "uvs", "uv_faces",
)  # fmt: skip


def open_head_path() -> Path:
    """The committed open head, wherever the package is installed."""
    return Path(str(resources.files("omega_cli.weights") / OPEN_HEAD))


def load_head(path: Path | None = None, device: torch.device | str = "cpu") -> HeadModel:
    """Read a head npz (None: the committed open head).

    Raises OmegaError naming the file when it is missing, damaged or not a head.
    """
    path = open_head_path() if path is None else Path(path)
    hint = "Reinstall the project, or rebuild it: `python -m omega_cli.head.bake` (docs/open-head.md)."
    try:
        data = path.read_bytes()
    except OSError as error:
        raise OmegaError(f"The head model {path} cannot be read: {error.strerror}.", hint) from None
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise OmegaError(f"The head model {path} is damaged: {error}.", hint) from None
    missing = [key for key in _NEEDED if key not in arrays]
    if missing:
        raise OmegaError(f"The head model {path} has no {', '.join(missing)}.", hint)
    return _from_arrays(arrays, path.stem, hashlib.sha256(data).hexdigest()).to(device)


def _from_arrays(arrays: dict[str, np.ndarray], name: str, sha256: str) -> HeadModel:
    def real(key: str) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(arrays[key], dtype=np.float32))

    def whole(key: str) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(arrays[key], dtype=np.int64))

    def tagged(prefix: str) -> list[str]:
        return sorted(key[len(prefix) :] for key in arrays if key.startswith(prefix))

    landmarks = {
        key: LandmarkEmbedding(
            face_index=whole(f"landmark_face/{key}"),
            barycentric=real(f"landmark_bary/{key}"),
            valid=torch.from_numpy(arrays[f"landmark_valid/{key}"].astype(bool)),
        )
        for key in tagged("landmark_face/")
    }
    meta = json.loads(str(arrays["meta"])) if "meta" in arrays else {}
    return HeadModel(
        v_template=real("v_template"),
        shapedirs=_scaled(arrays, "shapedirs"),
        exprdirs=_scaled(arrays, "exprdirs"),
        posedirs=real("posedirs") if "posedirs" in arrays else None,
        J_regressor=real("J_regressor"),
        weights=real("weights"),
        parents=tuple(int(p) for p in arrays["parents"]),
        faces=whole("faces"),
        uvs=real("uvs"),
        uv_faces=whole("uv_faces"),
        expression_names=tuple(str(s) for s in arrays.get("expression_names", np.zeros(0, str))),
        regions={key: torch.from_numpy(arrays[f"region/{key}"].astype(bool)) for key in tagged("region/")},
        landmarks=landmarks,
        mirror_index=whole("mirror_index") if "mirror_index" in arrays else None,
        albedo=real("albedo") if "albedo" in arrays else None,
        name=str(meta.get("name", name)),
        sha256=sha256,
    )


def _scaled(arrays: dict[str, np.ndarray], key: str) -> Tensor:
    """A basis [V, 3, K]; stored as float16 or int16 with one scale a component ("<key>_scale" [K])."""
    basis = arrays[key].astype(np.float32)
    if f"{key}_scale" in arrays:
        basis = basis * arrays[f"{key}_scale"].astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(basis))
