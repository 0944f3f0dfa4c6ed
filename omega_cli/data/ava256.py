"""Ava-256: about 80 cameras, frames as AVIF in uncompressed zip files, one for each camera.

`DATE--TIME--SUBJECT/decoder/` holds `camera_calibration.json`, `frame_list.csv` (seg_id, frame_id),
`image/camID.zip` (`camID/000123.avif`), `segmentation_parts/camID.zip` (`camID/000123.png`, labels) and
`head_pose/head_pose.zip` (`000123.txt`, 3x4 head -> world). In the calibration K and T (world -> camera)
are stored transposed, for full pictures of 2668x4096 px and in millimetres; principal points lie off the
centre and lenses are distorted. About 0.1 % of the pictures are missing. Fetched with the data set's own
`download.py` (CC BY-NC 4.0). Here: metres, stored pixels, straight lenses.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from omega_cli.data.reading import Lens, matrix, need, picture, read_json, rigid, to_srgb
from omega_cli.errors import OmegaError
from omega_cli.evaluate.frames import Frame, View, rig_centre
from omega_cli.evaluate.protocol import ALL_SEQUENCES, Protocol, Sample, frames_at
from omega_cli.geometry.camera import Camera

SENSOR = (2668, 4096)  # width, height that K is for, where the calibration does not say
_FETCH = (
    "Fetch it with the data set's download.py (assets camera_calibration frame_list head_pose image "
    "segmentation_parts) and give its output folder as --root."
)


def freeze(root: Path, protocol: Protocol) -> Protocol:
    """Fractions to frame numbers: of frame_list.csv's rows that the source camera has a picture of."""
    if protocol.frozen:
        return protocol
    samples: list[Sample] = []
    for sample in protocol.samples:
        if sample.frames:
            samples.append(sample)
            continue
        capture = _Capture(root, sample.identity, protocol)
        stored = capture.images(protocol.source_camera)
        rows = [
            (segment, frame)
            for segment, frame in capture.frame_list()
            if sample.sequence in (ALL_SEQUENCES, segment) and f"{frame:06d}.avif" in stored.names
        ]
        capture.close()
        chosen = frames_at(sample.fractions, range(len(rows)), f"{capture.folder} ({sample.sequence})")
        by_segment: dict[str, set[int]] = {}
        for row in chosen:
            by_segment.setdefault(rows[row][0], set()).add(rows[row][1])
        samples += [
            Sample(sample.identity, segment, frames=tuple(sorted(frames)))
            for segment, frames in by_segment.items()
        ]
    return replace(protocol, samples=tuple(samples))


def read(root: Path, protocol: Protocol) -> Iterator[Frame]:
    """The protocol's frames; a picture is unpacked when it is asked for."""
    if protocol.colour == "calibrated":
        raise OmegaError(
            "Ava-256 has no colour matrices.", 'Give a protocol with "colour": "stored" or "linear".'
        )
    protocol = freeze(root, protocol)
    for identity, samples in groupby(protocol.samples, key=lambda sample: sample.identity):
        capture = _Capture(root, identity, protocol)
        for sample in samples:
            for number in sample.frames:
                yield capture.frame(sample.sequence, number)
        capture.close()


class _Zip:
    """One zip file, opened at the first question; members by file name, whatever folder they lie in."""

    def __init__(self, path: Path, what: str) -> None:
        need(path, what, _FETCH)
        self.path, self._file = path, None
        self._names: dict[str, str] = {}

    @property
    def names(self) -> dict[str, str]:
        """File name -> member."""
        if not self._names:
            self._names = {name.rsplit("/", 1)[-1]: name for name in self._open().namelist()}
        return self._names

    def read(self, name: str) -> bytes:
        if name not in self.names:
            raise OmegaError(f"{self.path} holds no {name}.", "Freeze the protocol on this download.")
        try:
            return self._open().read(self.names[name])
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise OmegaError(f"{name} in {self.path} is damaged ({error}).", _FETCH) from error

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None

    def _open(self) -> zipfile.ZipFile:
        if self._file is None:
            try:
                self._file = zipfile.ZipFile(self.path)
            except (zipfile.BadZipFile, OSError) as error:
                raise OmegaError(f"{self.path} is no readable zip file ({error}).", _FETCH) from error
        return self._file


class _Capture:
    """One identity's folder."""

    def __init__(self, root: Path, identity: str, protocol: Protocol) -> None:
        self.folder = need(root / identity, f"Ava-256 capture {identity}", _FETCH) / "decoder"
        self.identity, self.protocol = identity, protocol
        self._zips: dict[str, _Zip] = {}
        self._cameras: dict[str, tuple[Camera, Lens]] = {}
        self._calibration: dict[str, Any] | None = None
        self._centre: Tensor | None = None

    def images(self, camera: str) -> _Zip:
        return self._zip(f"image/cam{camera}.zip", f"pictures of camera {camera}")

    def _zip(self, name: str, what: str) -> _Zip:
        if name not in self._zips:
            self._zips[name] = _Zip(self.folder / name, what)
        return self._zips[name]

    def close(self) -> None:
        """Let the files go; a later question opens them again."""
        for file in self._zips.values():
            file.close()

    def frame_list(self) -> list[tuple[str, int]]:
        """(segment, frame id) of every recorded frame."""
        path = need(self.folder / "frame_list.csv", "Ava-256's list of frames", _FETCH)
        try:
            with path.open(newline="") as file:
                return [(row["seg_id"], int(row["frame_id"])) for row in csv.DictReader(file)]
        except (KeyError, ValueError, TypeError) as error:
            raise OmegaError(f"{path} has no columns seg_id and frame_id with numbers.", _FETCH) from error

    @property
    def calibration(self) -> dict[str, Any]:
        """Camera id -> its entry in camera_calibration.json."""
        if self._calibration is None:
            path = self.folder / "camera_calibration.json"
            data = read_json(path, "Ava-256's camera calibration", _FETCH)
            try:
                self._calibration = {str(entry["cameraId"]): entry for entry in data["KRT"]}
            except (KeyError, TypeError) as error:
                raise OmegaError(f'{path} has no list "KRT" of cameras.', _FETCH) from error
        return self._calibration

    def frame(self, sequence: str, number: int) -> Frame:
        protocol, source = self.protocol, self.protocol.source_camera
        name, views, missing = f"{number:06d}", {}, []
        others = [c for c in self.calibration if c != source and (self.folder / f"image/cam{c}.zip").exists()]
        targets = protocol.target_cameras or tuple(others)
        if not targets:
            raise OmegaError(f"{self.folder}/image has only the source camera {source}.", _FETCH)
        for camera in (source, *targets):
            whole = f"{name}.avif" in self.images(camera).names
            if whole and protocol.mask == "dataset":
                whole = f"{name}.png" in self._parts(camera).names
            if whole:
                views[camera] = self._view(camera, name)
            elif camera == source:
                raise OmegaError(
                    f"The source camera {source} has no whole frame {name} in {self.folder}.",
                    "Freeze the protocol on this download.",
                )
            else:
                missing.append(camera)
        if self._centre is None:
            self._centre = rig_centre([self._camera(c, views[source].camera) for c in self.calibration])
        return Frame(
            self.identity, sequence, number, views[source], [views[t] for t in targets if t in views],
            tuple(missing), self._head_pose(name), self._centre,
        )  # fmt: skip

    def _parts(self, camera: str) -> _Zip:
        return self._zip(f"segmentation_parts/cam{camera}.zip", f"segmentation of camera {camera}")

    def _view(self, camera: str, name: str) -> View:
        if camera not in self._cameras:
            from PIL import Image

            with Image.open(_avif(self.images(camera), name)) as header:
                self._cameras[camera] = self._pinhole(camera, *header.size)
        known, lens = self._cameras[camera]
        return View(
            known, partial(self._image, camera, name), partial(self._mask, camera, name), seen=lens.seen
        )

    def _image(self, camera: str, name: str) -> Tensor:
        from PIL import Image

        known, lens = self._cameras[camera]
        with Image.open(_avif(self.images(camera), name)) as image:
            pixels = np.asarray(image.convert("RGB"))
        if pixels.shape[:2] != (known.height, known.width):
            raise OmegaError(
                f"{name}.avif of camera {camera} in {self.folder} is {pixels.shape[1]}×{pixels.shape[0]}; "
                f"others are {known.width}×{known.height}.",
                "One camera's zip mixes releases of different size; fetch it again.",
            )
        image = picture(lens.straighten(pixels))
        return to_srgb(image) if self.protocol.colour == "linear" else image

    def _mask(self, camera: str, name: str) -> Tensor | None:
        """1 on the protocol's foreground labels; None where no segmentation was fetched."""
        if not (self.folder / f"segmentation_parts/cam{camera}.zip").exists():
            return None
        from PIL import Image

        known, lens = self._cameras[camera]
        with Image.open(io.BytesIO(self._parts(camera).read(f"{name}.png"))) as image:
            # may be stored at another size than the pictures
            labels = np.asarray(image.resize((known.width, known.height), Image.Resampling.NEAREST))
        if labels.ndim != 2:
            raise OmegaError(f"{name}.png in {self._parts(camera).path} holds colours, not labels.", _FETCH)
        person = np.isin(labels, self.protocol.foreground_labels).astype(np.uint8) * 255
        return picture(lens.straighten(person, labels=True))

    def _head_pose(self, name: str) -> Tensor | None:
        """Head -> world [4, 4], m; None where it was not fetched or not tracked."""
        if not (self.folder / "head_pose/head_pose.zip").exists():
            return None
        file = self._zip("head_pose/head_pose.zip", "head poses")
        if f"{name}.txt" not in file.names:
            return None
        numbers = file.read(f"{name}.txt").decode("ascii", "replace").split()
        try:
            pose = np.array([float(number) for number in numbers]).reshape(3, 4)
        except ValueError as error:
            raise OmegaError(f"{name}.txt in {file.path} is no 3×4 matrix.", _FETCH) from error
        whole = rigid(np.vstack([pose, [0, 0, 0, 1]]), f"{name}.txt", file.path)
        return torch.from_numpy(_metres(whole)).float()

    def _pinhole(self, camera: str, width: int, height: int) -> tuple[Camera, Lens]:
        """The camera of the stored pictures, straightened, and the lens that does that."""
        path = self.folder / "camera_calibration.json"
        if camera not in self.calibration:
            raise OmegaError(f"{path} has no camera {camera}.", _FETCH)
        entry = self.calibration[camera]
        sensor = (entry.get("width") or SENSOR[0], entry.get("height") or SENSOR[1])
        if abs(width * sensor[1] - height * sensor[0]) > 2 * max(sensor):
            raise OmegaError(
                f"Camera {camera} in {self.folder} stores {width}×{height} px, which is no scaled "
                f"{sensor[0]}×{sensor[1]} picture.",
                _FETCH,
            )
        K = matrix(entry.get("K"), (3, 3), f"K of camera {camera}", path).T
        if not np.allclose(K[2], [0, 0, 1]):
            raise OmegaError(f"K of camera {camera} in {path} is not stored transposed.", _FETCH)
        K = np.diag([width / sensor[0], height / sensor[1], 1.0]) @ K
        rows = np.asarray(entry.get("T") or 0.0, np.float64)
        if rows.shape == (4, 3):  # without the constant column
            rows = np.hstack([rows, [[0], [0], [0], [1]]])
        name = f"T of camera {camera}"
        pose = _metres(rigid(matrix(rows, (4, 4), name, path).T, name, path))
        lens = Lens(K, _distortion(entry, camera, path), width, height)
        known = Camera(
            torch.from_numpy(K).float(), torch.from_numpy(pose).float(), width, height, "pinhole", camera
        )
        return known, lens

    def _camera(self, camera: str, like: Camera) -> Camera:
        """The camera alone, where no picture of it needs to be there."""
        return self._pinhole(camera, like.width, like.height)[0]


def _avif(file: _Zip, name: str) -> io.BytesIO:
    from PIL import features

    if not features.check("avif"):
        raise OmegaError(
            f"Pictures in {file.path} are AVIF, which the installed pillow cannot read.",
            "Install a pillow that can: pip install 'pillow>=11.3'.",
        )
    return io.BytesIO(file.read(f"{name}.avif"))


def _metres(pose: np.ndarray) -> np.ndarray:
    """A rigid transform of millimetres, for metres."""
    return np.hstack([pose[:, :3], pose[:, 3:] * [[1e-3], [1e-3], [1e-3], [1.0]]])


def _distortion(entry: dict[str, Any], camera: str, path: Path) -> np.ndarray:
    """OpenCV's coefficients k1 k2 p1 p2 [k3 [k4 k5 k6]]."""
    model = str(entry.get("distortionModel") or "radial-tangential")
    values = np.asarray(entry.get("distortion") or [0.0] * 4, np.float64)
    if "fish" in model.lower() or values.shape not in ((4,), (5,), (8,)):
        raise OmegaError(
            f"Camera {camera} in {path} has the lens model {model!r} with {values.size} numbers, "
            "which is not known.",
            "Known: radial-tangential with 4, 5 or 8. Leave the camera out through target_cameras.",
        )
    return values
