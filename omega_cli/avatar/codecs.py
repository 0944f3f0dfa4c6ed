"""Every file format of the avatar folder, both ways.

Each reader raises OmegaError that names the file, says what is wrong with it and which command makes
it again. No pickles: npz with allow_pickle=False, safetensors, JSON, PNG, OBJ, MP4.
"""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from omega_cli.avatar import layout
from omega_cli.avatar.digests import needs, rerun_hint
from omega_cli.avatar.film import contact_sheet, write_video
from omega_cli.avatar.freshness import check_schema
from omega_cli.errors import OmegaError
from omega_cli.geometry.camera import Camera

if TYPE_CHECKING:
    from omega_cli.head.params import HeadParams

__all__ = [
    "contact_sheet", "load_arrays", "load_cameras", "load_image", "load_json", "load_labels",
    "load_obj_vertices", "load_offsets", "load_params", "load_params_meta", "load_tensors", "save_arrays",
    "save_cameras", "save_image", "save_json", "save_labels", "save_obj", "save_offsets", "save_params",
    "save_tensors", "write_video",
]  # fmt: skip

_PER_FRAME = (
    "expression", "global_orient", "neck_pose", "jaw_pose", "leye_pose", "reye_pose", "transl",
)  # fmt: skip


@contextlib.contextmanager
def _reading(path: Path, *wrong: type[Exception]) -> Iterator[None]:
    """Turn what a library says about a broken file into the error that a user can act on."""
    needs(path)
    try:
        yield
    except OmegaError:
        raise
    except PermissionError as error:
        raise OmegaError(f"{path} may not be read (permission denied).") from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, *wrong) as error:
        detail = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise OmegaError(f"{path} is damaged or was edited wrongly ({detail}).", rerun_hint(path)) from error


# --- images ------------------------------------------------------------------------------------


def save_image(path: Path, image: Tensor) -> None:
    """Write [C, H, W] (C = 1, 3, 4) or [H, W], sRGB in [0, 1], as an 8-bit PNG."""
    from PIL import Image

    values = image.detach().cpu().float()
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[0] not in (1, 3, 4):
        raise ValueError(f"image must be [1|3|4, H, W] or [H, W], got {tuple(image.shape)}")
    pixels = (values.clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(path, "PNG", compress_level=3)


def load_image(path: Path, channels: int = 3) -> Tensor:
    """Read a picture as float32 [channels, H, W] in [0, 1]; channels is 1, 3 or 4 (straight alpha)."""
    from PIL import Image

    with _reading(path, Image.DecompressionBombError, SyntaxError), Image.open(path) as opened:
        opened.load()
        if opened.mode.startswith("I"):
            values = np.asarray(opened, dtype=np.float32) / 65535.0
            opened = Image.fromarray((values.clip(0, 1) * 255 + 0.5).astype(np.uint8))
        pixels = np.array(opened.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels]))
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], channels)).permute(2, 0, 1).float() / 255


def save_labels(path: Path, labels: Tensor) -> None:
    """Write an integer label image [H, W] (values up to 255) as an 8-bit PNG."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels.detach().cpu().to(torch.uint8).numpy()).save(path, "PNG")


def load_labels(path: Path) -> Tensor:
    """Read a label image as int64 [H, W]."""
    return (load_image(path, 1)[0] * 255 + 0.5).long()


# --- arrays ------------------------------------------------------------------------------------


def save_tensors(path: Path, **tensors: Tensor) -> None:
    """Write named tensors as safetensors."""
    from safetensors.torch import save

    path.parent.mkdir(parents=True, exist_ok=True)
    # Not save_file: written by Python, a full disk is an OSError like any other.
    path.write_bytes(save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}))


def load_tensors(path: Path, *names: str) -> dict[str, Tensor]:
    """Read a safetensors file; `names` must be in it."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    with _reading(path, SafetensorError):
        tensors = load(path.read_bytes())
        _expect(tensors, names)
    return tensors


def save_arrays(path: Path, **arrays: Any) -> None:
    """Write named arrays (tensors, numpy, numbers, text) as an npz without pickles."""
    plain = {
        name: array.detach().cpu().numpy() if isinstance(array, Tensor) else np.asarray(array)
        for name, array in arrays.items()
    }
    objects = [name for name, array in plain.items() if array.dtype == object]
    if objects:
        raise ValueError(f"npz files hold no Python objects: {', '.join(objects)}")
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **plain)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())


def load_arrays(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Read an npz; `names` must be in it."""
    with _reading(path), np.load(path, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("not an npz archive")
        arrays = {name: archive[name] for name in archive.files}
        _expect(arrays, names)
    return arrays


def _expect(found: dict[str, Any], names: tuple[str, ...]) -> None:
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"no {', '.join(missing)} in it")


def save_params(path: Path, params: HeadParams, *, fps: float | None = None, head: Any = None) -> None:
    """Write HeadParams as flame.npz; `head` (a HeadModel) adds the model's name and digest to `meta`."""
    meta: dict[str, Any] = {"schema": layout.FLAME_SCHEMA}
    if head is not None:
        meta |= {"model": getattr(head, "name", ""), "sha256": getattr(head, "sha256", "")}
    names = ("betas", *_PER_FRAME, "scale")
    values = {name: getattr(params, name).float() for name in names}
    rate = np.asarray([] if fps is None else fps, dtype=np.float32)
    save_arrays(path, **values, fps=rate, meta=json.dumps(meta))


def load_params(path: Path) -> HeadParams:
    """Read flame.npz (or motion.npz) as HeadParams, float32."""
    from omega_cli.head.params import HeadParams

    names = ("betas", *_PER_FRAME, "scale")
    arrays = load_arrays(path, *names)
    with _reading(path):
        _check_flame_schema(arrays, path)
        values = {name: torch.from_numpy(arrays[name].astype(np.float32)) for name in names}
        bad = [name for name, value in values.items() if not torch.isfinite(value).all()]
        if bad:
            raise ValueError(f"{', '.join(bad)} has values that are not finite")
        return HeadParams(**values)


def load_params_meta(path: Path) -> dict[str, Any]:
    """`meta` of a flame.npz (schema, model, sha256) with its `fps` (float or None)."""
    arrays = load_arrays(path)
    with _reading(path):
        meta = _check_flame_schema(arrays, path)
        fps = np.ravel(arrays.get("fps", np.zeros(0)))
    return {**meta, "fps": float(fps[0]) if fps.size else None}


def _check_flame_schema(arrays: dict[str, np.ndarray], path: Path) -> dict[str, Any]:
    meta = json.loads(str(arrays["meta"])) if "meta" in arrays else {"schema": layout.FLAME_SCHEMA}
    check_schema(meta.get("schema"), layout.FLAME_SCHEMA, path)
    return meta


def save_offsets(path: Path, offsets: Tensor) -> None:
    """Write canonical offsets [V, 3], metres, before skinning."""
    if offsets.ndim != 2 or offsets.shape[1] != 3:
        raise ValueError(f"offsets must be [V, 3], got {tuple(offsets.shape)}")
    save_arrays(path, offsets=offsets.float())


def load_offsets(path: Path, vertices: int | None = None) -> Tensor:
    """Read canonical offsets [V, 3]; `vertices` is the V that the head has."""
    values = load_arrays(path, "offsets")["offsets"]
    with _reading(path):
        offsets = torch.from_numpy(values.astype(np.float32))
        if offsets.ndim != 2 or offsets.shape[1] != 3 or vertices not in (None, offsets.shape[0]):
            wanted = "V" if vertices is None else vertices
            raise ValueError(f"offsets are {list(offsets.shape)}, [{wanted}, 3] is needed")
        if not torch.isfinite(offsets).all():
            raise ValueError("offsets has values that are not finite")
    return offsets


# --- text --------------------------------------------------------------------------------------


def save_json(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def load_json(path: Path, *names: str) -> dict[str, Any]:
    """Read a JSON object; `names` must be in it."""
    with _reading(path):
        document = json.loads(path.read_text())
        if not isinstance(document, dict):
            raise ValueError("a JSON object was expected")
        _expect(document, names)
    return document


def save_cameras(path: Path, cameras: list[Camera]) -> None:
    listed = [
        {
            "id": camera.id,
            "model": camera.model,
            "width": camera.width,
            "height": camera.height,
            "K": camera.K.tolist(),
            "viewmat": camera.viewmat.tolist(),
        }
        for camera in cameras
    ]
    save_json(path, {"schema": layout.CAMERAS_SCHEMA, "cameras": listed})


def load_cameras(path: Path) -> list[Camera]:
    document = load_json(path, "schema", "cameras")
    check_schema(document["schema"], layout.CAMERAS_SCHEMA, path)
    with _reading(path):
        cameras = [_camera(entry) for entry in document["cameras"]]
        if not cameras:
            raise ValueError("no cameras in it")
    return cameras


def _camera(entry: dict[str, Any]) -> Camera:
    if entry["model"] not in ("pinhole", "ortho"):
        raise ValueError(f"camera model {entry['model']!r} is neither pinhole nor ortho")
    K, viewmat = torch.tensor(entry["K"]).float(), torch.tensor(entry["viewmat"]).float()
    if not (torch.isfinite(K).all() and torch.isfinite(viewmat).all()):
        raise ValueError("a camera has values that are not finite")
    return Camera(K, viewmat, int(entry["width"]), int(entry["height"]), entry["model"], str(entry["id"]))


def save_obj(
    path: Path,
    vertices: Tensor,  # [V, 3] m
    faces: Tensor,  # [F, 3]
    uvs: Tensor | None = None,  # [Vt, 2] from the top left
    uv_faces: Tensor | None = None,  # [F, 3]
) -> None:
    """Write a Wavefront OBJ; uv is flipped to OBJ's bottom left here and nowhere else."""
    lines = ["v {:.7f} {:.7f} {:.7f}".format(*v) for v in vertices.detach().cpu().tolist()]
    corners = (faces.cpu() + 1).tolist()
    if uvs is not None and uv_faces is not None:
        lines += [f"vt {u:.7f} {1 - v:.7f}" for u, v in uvs.detach().cpu().tolist()]
        pairs = zip(corners, (uv_faces.cpu() + 1).tolist(), strict=True)
        lines += ["f " + " ".join(f"{i}/{t}" for i, t in zip(f, ft, strict=True)) for f, ft in pairs]
    else:
        lines += ["f {} {} {}".format(*f) for f in corners]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def load_obj_vertices(path: Path) -> Tensor:
    """The `v` lines of an OBJ, in file order: float32 [V, 3]."""
    with _reading(path):
        rows = [line.split()[1:4] for line in path.read_text().splitlines() if line.startswith("v ")]
        if not rows:
            raise ValueError("no vertices in it")
        vertices = torch.tensor([[float(x) for x in row] for row in rows])
        if vertices.shape[1] != 3 or not torch.isfinite(vertices).all():
            raise ValueError("its vertices are not three finite numbers each")
    return vertices
