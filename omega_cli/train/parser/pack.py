"""Photographs in one file, to train the parser on what is sure about them, or to compare it on.

`python -m omega_cli.train.parser.pack PHOTOS... -o PACK.npz` packs photographs (or folders of them): a wide
crop around the largest face (WebP), the saliency network's matte (PNG) and the 478 landmarks. No parser is
asked. With `--compare` it packs the tracker's own crop and what BiSeNet says of it (PNG), which scores are
taken against and nothing is trained on.

The npz: names [N]; NAME/image, NAME/matte or NAME/labels as bytes; NAME/points [478, 2] float32 px;
NAME/photo [4]: x0, y0, x1, y1 px of the photo within the crop.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import click
import numpy as np

from omega_cli.errors import OmegaError
from omega_cli.track import crop as crops
from omega_cli.track import matte as mattes
from omega_cli.track.landmarks import Face, Landmarker, find_faces

SIDE, SPAN = 288, 2.6  # px and face heights of a packed crop: wider than the tracker's, to cut it at random
COMPARED_SIDE = 256
QUALITY = 80
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class Portrait:
    """rgb [S, S, 3] uint8; matte [S, S] in [0, 1]; points [478, 2] px; photo [S, S] bool: False beyond the
    photo's edge, where the picture is mirrored."""

    name: str
    rgb: np.ndarray
    matte: np.ndarray
    points: np.ndarray
    photo: np.ndarray


def photographs(given: Sequence[Path]) -> list[Path]:
    """Pictures among files and folders (all below them), by name."""
    found: list[Path] = []
    for path in given:
        inside = path.rglob("*") if path.is_dir() else [path]
        found += [p for p in inside if p.suffix.lower() in SUFFIXES]
    return sorted(found)


def encoded(picture: np.ndarray, kind: str) -> np.ndarray:
    """uint8 picture -> bytes of a WEBP or PNG file."""
    from PIL import Image

    stream = io.BytesIO()
    options = {"quality": QUALITY, "method": 6} if kind == "WEBP" else {"optimize": True}
    Image.fromarray(picture).save(stream, kind, **options)
    return np.frombuffer(stream.getvalue(), np.uint8)


def decoded(data: np.ndarray) -> np.ndarray:
    from PIL import Image

    with Image.open(io.BytesIO(data.tobytes())) as image:
        return np.asarray(image).copy()


def found_face(path: Path, landmarker: Landmarker) -> tuple[np.ndarray, Face] | None:
    """(photo, its largest face), None where there is no photo or no face."""
    from omega_cli.track.image_io import decode_photo

    try:
        photo = decode_photo(path.read_bytes(), path.name)
    except OmegaError:
        return None
    faces = find_faces(photo.rgb, landmarker)
    return (photo.rgb, faces[0]) if faces else None


def cropped(rgb: np.ndarray, face: Face, saliency: object, name: str) -> Portrait:
    """The wide crop with everything that is trained on."""
    import cv2

    wide = crops.cut(rgb, face, SPAN)
    scale = SIDE / wide.rgb.shape[0]
    salient = mattes.saliency(wide.rgb, saliency)
    small, matte = (cv2.resize(x, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for x in (wide.rgb, salient))
    points = face.moved(wide.scale, wide.shift).points * scale
    photo = cv2.resize(wide.photo.astype(np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST) > 0
    return Portrait(name, small, matte, points.astype(np.float32), photo)


def _box(photo: np.ndarray) -> np.ndarray:
    """x0, y0, x1, y1 of the True part of a mask that is a box."""
    x, y = (np.flatnonzero(photo.any(axis)) for axis in (0, 1))
    return np.array([x[0], y[0], x[-1] + 1, y[-1] + 1] if len(x) else [0, 0, 0, 0], np.int16)


def pack(paths: Sequence[Path], out: Path) -> int:
    """Write a pack to train on; returns how many photographs had a face."""
    from omega_cli import weights
    from omega_cli.track.stage import load_saliency

    arrays: dict[str, np.ndarray] = {}
    names, network = [], load_saliency(None)
    with Landmarker(weights.resolve("face_landmarker").read_bytes()) as landmarker:
        for path in paths:
            found = found_face(path, landmarker)
            if found is None:
                continue
            one = cropped(*found, network, path.stem)
            matte = (one.matte * 15).round().astype(np.uint8) * 17  # 16 steps are enough
            arrays[f"{one.name}/image"] = encoded(one.rgb, "WEBP")
            arrays[f"{one.name}/matte"] = encoded(matte, "PNG")
            arrays[f"{one.name}/points"] = one.points.astype(np.float16)
            arrays[f"{one.name}/photo"] = _box(one.photo)
            names.append(one.name)
    np.savez(out, names=np.array(names), **arrays)  # type: ignore[arg-type]
    return len(names)


def pack_compared(paths: Sequence[Path], out: Path | BinaryIO) -> int:
    """Write the tracker's crops with BiSeNet's labels, both COMPARED_SIDE px; returns how many."""
    import cv2

    from omega_cli import weights
    from omega_cli.track import portrait
    from omega_cli.track.image_io import decode_photo
    from omega_cli.track.stage import load_parser

    arrays: dict[str, np.ndarray] = {}
    names, parser = [], load_parser("bisenet")
    side = (COMPARED_SIDE, COMPARED_SIDE)
    with Landmarker(weights.resolve("face_landmarker").read_bytes()) as landmarker:
        for path in paths:
            found = found_face(path, landmarker)
            if found is None:
                continue
            photo = decode_photo(path.read_bytes(), path.name)
            crop, probabilities = portrait.parsed_crop(photo, found[1], parser)
            small = cv2.resize(crop.rgb, side, interpolation=cv2.INTER_AREA)
            per_label = cv2.resize(probabilities.transpose(1, 2, 0), side, interpolation=cv2.INTER_AREA)
            arrays[f"{path.stem}/image"] = encoded(small, "WEBP")
            arrays[f"{path.stem}/labels"] = encoded(per_label.argmax(2).astype(np.uint8), "PNG")
            arrays[f"{path.stem}/photo"] = _box(
                cv2.resize(crop.photo.astype(np.uint8), side, interpolation=cv2.INTER_NEAREST) > 0
            )
            names.append(path.stem)
    np.savez(out, names=np.array(names), **arrays)  # type: ignore[arg-type]
    return len(names)


def read(path: Path) -> Iterator[Portrait]:
    """The photographs of a pack to train on."""
    with np.load(path, allow_pickle=False) as z:
        for name in map(str, z["names"]):
            photo = np.zeros((SIDE, SIDE), bool)
            x0, y0, x1, y1 = z[f"{name}/photo"]
            photo[y0:y1, x0:x1] = True
            matte = decoded(z[f"{name}/matte"]).astype(np.float32) / 255
            points = z[f"{name}/points"].astype(np.float32)
            yield Portrait(name, decoded(z[f"{name}/image"]), matte, points, photo)


def read_compared(path: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(name, rgb [S, S, 3] uint8, labels [S, S] uint8 with 255 beyond the photo) of a pack to compare on."""
    with np.load(path, allow_pickle=False) as z:
        for name in map(str, z["names"]):
            labels = decoded(z[f"{name}/labels"])
            x0, y0, x1, y1 = z[f"{name}/photo"]
            seen = np.full_like(labels, 255)
            seen[y0:y1, x0:x1] = labels[y0:y1, x0:x1]
            yield name, decoded(z[f"{name}/image"]), seen


@click.command()
@click.argument("photos", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
@click.option("--names", type=click.Path(path_type=Path, exists=True), help="Text file: only these stems.")
@click.option("--compare", is_flag=True, help="Pack BiSeNet's labels, to compare with.")
def main(photos: tuple[Path, ...], output: Path, names: Path | None, compare: bool) -> None:
    """Pack photographs for `omega train --stage parser`."""
    paths = photographs(photos)
    if names is not None:
        wanted = set(names.read_text().split())
        paths = [path for path in paths if path.stem in wanted]
    count = (pack_compared if compare else pack)(paths, output)
    sys.stdout.write(f"{count} of {len(paths)} photographs in {output}\n")


if __name__ == "__main__":
    main()
