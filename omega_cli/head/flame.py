"""Official FLAME files (the user's own) -> the arrays of a head npz. Their pickles are read restrictedly."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from omega_cli.errors import OmegaError

IDENTITY, EXPRESSION = 300, 100  # how FLAME's 400 shape directions are split
_SKIN_PARTS = (
    "left_ear",
    "right_ear",
    "boundary",
    "neck",
    "scalp",
)  # precedence of FLAME's overlapping masks


class _Record:
    """Stands in for a class of the pickle: keeps its state, runs none of its code."""

    def __init__(self, *args: object) -> None:
        self.args = args
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


class _Chumpy(_Record):
    def array(self) -> np.ndarray:
        if "x" in self.state:
            return np.asarray(_plain(self.state["x"]))
        if "a" in self.state and "idxs" in self.state:  # a chumpy selection of another array
            picked = np.asarray(_plain(self.state["a"])).ravel()[np.asarray(self.state["idxs"])]
            return picked.reshape(self.state.get("preferred_shape", picked.shape))
        raise pickle.UnpicklingError(f"a chumpy value with {sorted(self.state)} is unknown")


class _Columns(_Record):
    def array(self) -> np.ndarray:
        return np.asarray(sp.csc_matrix(self._parts(), shape=self._shape()).todense())

    def _parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.state["data"], self.state["indices"], self.state["indptr"]

    def _shape(self) -> tuple[int, int]:
        return tuple(self.state.get("_shape", self.state.get("shape")))  # type: ignore[arg-type]


class _Rows(_Columns):
    def array(self) -> np.ndarray:
        return np.asarray(sp.csr_matrix(self._parts(), shape=self._shape()).todense())


class _Unpickler(pickle.Unpickler):
    """Knows numpy arrays, scipy's compressed matrices and chumpy's arrays; refuses everything else."""

    _PLAIN = ("_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer")

    def find_class(self, module: str, name: str) -> Any:
        root = module.split(".")[0]
        if root == "numpy" and name in self._PLAIN:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        if root == "chumpy":
            return _Chumpy
        if root == "scipy" and name in ("csc_matrix", "csc_array"):
            return _Columns
        if root == "scipy" and name in ("csr_matrix", "csr_array"):
            return _Rows
        if (module, name) in (("copy_reg", "_reconstructor"), ("copyreg", "_reconstructor")):
            return _reconstruct
        if (module, name) in (("__builtin__", "object"), ("builtins", "object")):
            return object
        if (module, name) == ("_codecs", "encode"):
            return _encode
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a head model")


def _reconstruct(kind: type, base: type, state: object) -> object:
    """copyreg's rebuilding of old-style instances, for our stand-ins alone."""
    if not issubclass(kind, _Record):
        raise pickle.UnpicklingError(f"{kind} is not allowed in a head model")
    return kind()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


def _plain(value: Any) -> Any:
    return value.array() if isinstance(value, (_Chumpy, _Columns)) else value


def _unpickle(stream: io.BufferedIOBase | io.BytesIO, path: Path) -> Any:
    try:
        return _Unpickler(stream, encoding="latin1").load()  # type: ignore[arg-type]
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, KeyError, TypeError,
            ValueError) as error:  # fmt: skip
        raise OmegaError(
            f"{path} cannot be read as a FLAME file: {error}.",
            "Give the generic_model.pkl (or male, female) of FLAME 2020 or 2023, as downloaded.",
        ) from None


def convert_flame_pickle(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a head npz (see `assets.load_head`) from an official FLAME pickle.

    Files beside it are used where they are: head_template.obj (or head_template_mesh.obj) for the UV layout,
    FLAME_masks.pkl for the regions, landmark_embedding.npy for the 68 points. Raises OmegaError when the
    pickle is no FLAME model or holds anything but arrays.
    """
    path = Path(path)
    try:
        raw = _unpickle(io.BytesIO(path.read_bytes()), path)
    except OSError as error:
        raise OmegaError(f"{path} cannot be read: {error.strerror}.", "") from None
    wanted = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f")
    missing = [key for key in wanted if not isinstance(raw, dict) or key not in raw]
    if missing:
        raise OmegaError(f"{path} is no FLAME model: it has no {', '.join(missing)}.", "")
    data = {key: np.asarray(_plain(raw[key])) for key in wanted}
    directions = data["shapedirs"]
    V = len(data["v_template"])
    if directions.shape != (V, 3, IDENTITY + EXPRESSION):
        raise OmegaError(f"{path}: shapedirs must be [{V}, 3, 400], got {list(directions.shape)}.", "")
    parents = data["kintree_table"][0].astype(np.int64)
    parents[0] = -1
    arrays = {
        "v_template": data["v_template"].astype(np.float32),
        "shapedirs": directions[:, :, :IDENTITY].astype(np.float32),
        "exprdirs": directions[:, :, IDENTITY:].astype(np.float32),
        "posedirs": data["posedirs"].reshape(V, 3, -1).astype(np.float32),
        "J_regressor": data["J_regressor"].astype(np.float32),
        "weights": data["weights"].astype(np.float32),
        "parents": parents.astype(np.int32),
        "faces": data["f"].astype(np.int32),
        "meta": np.array(json.dumps({"name": f"flame-{path.stem}"})),
    }
    arrays.update(_uv_layout(path))
    arrays.update(_regions(path.with_name("FLAME_masks.pkl"), V))
    arrays.update(_landmarks(path.with_name("landmark_embedding.npy")))
    return arrays


def _uv_layout(path: Path) -> dict[str, np.ndarray]:
    uvs, corners = [], []
    for name in ("head_template.obj", "head_template_mesh.obj"):
        template = path.with_name(name)
        if not uvs and template.is_file():
            for line in template.read_text().splitlines():
                word, *rest = line.split() or [""]
                if word == "vt":
                    uvs.append([float(rest[0]), 1 - float(rest[1])])  # obj counts v from the bottom
                elif word == "f":
                    corners.append([int(corner.split("/")[1]) - 1 for corner in rest[:3]])
    return {
        "uvs": np.array(uvs, np.float32).reshape(-1, 2),
        "uv_faces": np.array(corners, np.int32).reshape(-1, 3),
    }


def _regions(path: Path, V: int) -> dict[str, np.ndarray]:
    """Our region names from FLAME's masks; face, scalp, neck, ears and boundary made disjoint."""
    if not path.is_file():
        return {}
    masks = {}
    for name, idx in _unpickle(io.BytesIO(path.read_bytes()), path).items():
        masks[name] = np.zeros(V, bool)
        masks[name][np.asarray(_plain(idx)).astype(np.int64)] = True
    none = np.zeros(V, bool)
    out = {"left_eye": masks.get("left_eyeball", none), "right_eye": masks.get("right_eyeball", none)}
    out["eyes"] = out["left_eye"] | out["right_eye"]
    out["skin"] = ~out["eyes"]
    taken = out["eyes"].copy()
    for name in _SKIN_PARTS:
        out[name] = masks.get(name, none) & ~taken
        taken |= out[name]
    out["ears"] = out["left_ear"] | out["right_ear"]
    out["face"] = ~taken
    for name in ("lips", "nose", "forehead", "eye_region"):
        out[name] = masks.get(name, none)
    for name in ("teeth", "tongue", "mouth_inside", "lashes"):
        out[name] = none
    return {f"region/{name}": mask for name, mask in out.items()}


def _landmarks(path: Path) -> dict[str, np.ndarray]:
    """The 68 points of FLAME's own embedding (a pickled dictionary inside an npy)."""
    if not path.is_file():
        return {}
    stream = io.BytesIO(path.read_bytes())
    version = np.lib.format.read_magic(stream)
    read_header = (
        np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    )
    read_header(stream)
    found = np.asarray(_unpickle(stream, path)).reshape(-1)[0]
    face = np.asarray(_plain(found["full_lmk_faces_idx"])).reshape(-1)
    return {
        "landmark_face/ibug68": face.astype(np.int32),
        "landmark_bary/ibug68": np.asarray(_plain(found["full_lmk_bary_coords"]))
        .reshape(-1, 3)
        .astype(np.float32),
        "landmark_valid/ibug68": np.ones(len(face), bool),
    }
