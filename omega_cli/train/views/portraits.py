"""Tracked photographs in one file, to train the front view on real faces.

`python -m omega_cli.train.views.portraits AVATARS PACK.npz` packs the source/ folders of avatars that `omega
track` made: picture (WebP with alpha), parsing (PNG), fitted parameters, camera.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from omega_cli.avatar import codecs, layout
from omega_cli.avatar.crop import photo_area
from omega_cli.avatar.layout import Avatar
from omega_cli.geometry.camera import Camera
from omega_cli.head.frame import head_frame
from omega_cli.head.model import HeadModel
from omega_cli.head.params import HeadParams

FIELDS = (
    "betas", "expression", "global_orient", "neck_pose", "jaw_pose", "leye_pose", "reye_pose", "transl",
    "scale",
)  # fmt: skip
MAX_TURN_DEG = 12.0  # of the head: beyond, the photo is no front view


@dataclass(frozen=True)
class Portrait:
    """rgba [4, 512, 512] in [0, 1]; labels [512, 512]; area [512, 512] bool; params and camera as `track`
    fitted them."""

    name: str
    rgba: Tensor
    labels: Tensor
    area: Tensor
    params: HeadParams
    camera: Camera


def pack(sources: Path, out: Path, model: HeadModel) -> int:
    """Write the usable ones of sources/*/source (or sources/*); returns how many."""
    from PIL import Image

    arrays: dict[str, np.ndarray] = {}
    names = []
    for folder in sorted(sources.iterdir()):
        source = Avatar(folder).source if Avatar(folder).source.is_dir() else folder
        if not (source / layout.SOURCE_IMAGE).is_file():
            continue
        params = codecs.load_params(source / layout.FLAME)
        camera = codecs.load_cameras(source / layout.CAMERAS)[0]
        _, seen_from = head_frame(model, params, camera)
        ahead = -seen_from.forward
        if float(torch.rad2deg(torch.acos(ahead[2].clamp(-1, 1)))) > MAX_TURN_DEG:
            continue
        crop = source / layout.SOURCE_CROP
        picture = codecs.load_image(source / layout.SOURCE_IMAGE, 4)
        stream = io.BytesIO()
        Image.fromarray((picture.permute(1, 2, 0) * 255).round().byte().numpy()).save(
            stream, "WEBP", quality=90
        )
        arrays[f"{folder.name}/image"] = np.frombuffer(stream.getvalue(), np.uint8)
        stream = io.BytesIO()
        labels = codecs.load_labels(source / layout.SOURCE_PARSING)
        Image.fromarray(labels.byte().numpy()).save(stream, "PNG", optimize=True)
        arrays[f"{folder.name}/labels"] = np.frombuffer(stream.getvalue(), np.uint8)
        arrays[f"{folder.name}/K"] = camera.K.numpy()
        arrays[f"{folder.name}/viewmat"] = camera.viewmat.numpy()
        facts = codecs.load_json(crop) if crop.is_file() else None
        arrays[f"{folder.name}/crop"] = np.array(json.dumps(facts))
        for field in FIELDS:
            arrays[f"{folder.name}/{field}"] = getattr(params, field).numpy()
        names.append(folder.name)
    out.parent.mkdir(parents=True, exist_ok=True)
    codecs.save_arrays(out, names=np.array(names), **arrays)
    return len(names)


def names(path: Path) -> list[str]:
    with np.load(path, allow_pickle=False) as z:
        return list(map(str, z["names"]))


def read(path: Path, wanted: list[str]) -> Iterator[Portrait]:
    """The wanted portraits of a pack."""
    from PIL import Image

    with np.load(path, allow_pickle=False) as z:
        for name in wanted:
            image, label = (
                np.asarray(Image.open(io.BytesIO(z[f"{name}/{k}"].tobytes()))) for k in ("image", "labels")
            )
            rgba = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
            params = HeadParams(**{f: torch.from_numpy(np.array(z[f"{name}/{f}"])) for f in FIELDS})
            height, width = rgba.shape[1:]
            camera = Camera(
                torch.from_numpy(z[f"{name}/K"]), torch.from_numpy(z[f"{name}/viewmat"]), width, height
            )
            area = photo_area(json.loads(str(z[f"{name}/crop"])), width, height)
            yield Portrait(name, rgba, torch.from_numpy(label.copy()).long(), area, params, camera)


if __name__ == "__main__":
    from omega_cli.head.assets import load_head

    packed = pack(Path(sys.argv[1]), Path(sys.argv[2]), load_head())
    sys.stdout.write(f"{packed} portraits in {sys.argv[2]}\n")
