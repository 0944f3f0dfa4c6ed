"""NeRSemble v2: 16 cameras, videos `ID/sequences/SEQUENCE/images/cam_SERIAL.mp4`.

`ID/calibration/camera_params.json` holds `world_2_cam` (serial -> 4x4, OpenCV, metres) and one
`intrinsics` 3x3 that all cameras share, in pixels of the 3208x2200 sensor (stored upright, 2200 wide);
`ID/calibration/color_calibration.json` a colour matrix for each serial;
`ID/sequences/BACKGROUND/image_SERIAL.jpg` the empty set. Lenses are straightened already. No masks ship.
Fetched with `nersemble-data download FOLDER --participant ID` (on request; non-commercial terms).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from omega_cli.data.reading import matrix, need, picture, read_json, rigid, to_linear, to_srgb
from omega_cli.errors import OmegaError
from omega_cli.evaluate.frames import Frame, View, rig_centre
from omega_cli.evaluate.protocol import ALL_SEQUENCES, Protocol, frames_at
from omega_cli.geometry.camera import Camera

FORWARD = 60  # frames that are decoded on the way rather than sought: key frames lie far apart  # ours
SENSOR = (2200, 3208)  # width, height of the pictures that the intrinsics are for

# Which products of r, g, b (exponents) a colour matrix multiplies, by its number of columns:
# Cheung et al. 2004, A comparative study of the characterisation of colour cameras by means of neural
# networks and polynomial transforms, tab. 1.
_RGB = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
_MIXED = ((1, 1, 0), (1, 0, 1), (0, 1, 1))
_SQUARES = ((2, 0, 0), (0, 2, 0), (0, 0, 2))
_ALL, _ONE = ((1, 1, 1),), ((0, 0, 0),)
_TERMS = {
    len(terms): terms
    for terms in (
        _RGB,
        _RGB + _ONE,
        _RGB + _ALL + _ONE,
        _RGB + _MIXED + _ONE,
        _RGB + _MIXED + _ALL + _ONE,
        _RGB + _MIXED + _SQUARES + _ONE,
        _RGB + _MIXED + _SQUARES + _ALL + _ONE,
    )
}


def freeze(root: Path, protocol: Protocol) -> Protocol:
    """Fractions to frame numbers: of the frames that all cameras of a sequence have."""
    if protocol.frozen:
        return protocol
    samples = []
    for sample in protocol.samples:
        if sample.fractions:
            if sample.sequence == ALL_SEQUENCES:
                raise OmegaError(
                    f"The protocol {protocol.name} names no sequence for {sample.identity}.",
                    "NeRSemble's recordings are separate: name each one (EXP-1-head, …).",
                )
            videos = _videos(root, sample.identity, sample.sequence)
            _check_cameras(protocol, list(videos), root, sample.identity, sample.sequence)
            used = [protocol.source_camera, *(protocol.target_cameras or videos)]
            count = min(videos[serial].count for serial in used)
            frames = frames_at(sample.fractions, range(count), f"{root}/{sample.where}")
            sample = replace(sample, frames=frames, fractions=())
        samples.append(sample)
    return replace(protocol, samples=tuple(samples))


def read(root: Path, protocol: Protocol) -> Iterator[Frame]:
    """The protocol's frames; a video is decoded when one of its pictures is asked for."""
    protocol = freeze(root, protocol)
    for sample in protocol.samples:
        videos = _videos(root, sample.identity, sample.sequence)
        _check_cameras(protocol, list(videos), root, sample.identity, sample.sequence)
        calibration = _Calibration(root, sample.identity, protocol.colour)
        source, others = protocol.source_camera, [s for s in videos if s != protocol.source_camera]
        targets = protocol.target_cameras or others
        cameras = {serial: calibration.camera(serial, videos[serial]) for serial in (source, *targets)}
        centre = calibration.rig_centre(videos[source])
        for number in sample.frames:
            views = {
                serial: View(
                    camera,
                    partial(calibration.corrected, serial, videos[serial], number),
                    background=partial(calibration.background, serial),
                )
                for serial, camera in cameras.items()
                if serial == source or number < videos[serial].count
            }
            yield Frame(
                sample.identity, sample.sequence, number,
                views[source], [views[t] for t in targets if t in views],
                tuple(t for t in targets if t not in views), rig_centre=centre,
            )  # fmt: skip
        for video in videos.values():
            video.close()


def _fetch(identity: str, sequence: str = "") -> str:
    wanted = f" --sequence {sequence}" if sequence else ""
    return (
        f"Fetch it with `nersemble-data download FOLDER --participant {identity.lstrip('0') or 0}{wanted}` "
        "and give that FOLDER as --root."
    )


def _videos(root: Path, identity: str, sequence: str) -> dict[str, Video]:
    """The videos of one sequence by serial, none of them opened."""
    hint = _fetch(identity, sequence)
    folder = root / identity / "sequences" / sequence / "images"
    need(root / identity, f"NeRSemble identity {identity}", hint)
    need(folder, f"NeRSemble sequence {sequence}", hint)
    found = {path.stem.removeprefix("cam_"): Video(path) for path in sorted(folder.glob("cam_*.mp4"))}
    if not found:
        raise OmegaError(f"{folder} holds no cam_SERIAL.mp4.", hint)
    return found


def _check_cameras(protocol: Protocol, serials: list[str], root: Path, identity: str, sequence: str) -> None:
    for serial in (protocol.source_camera, *protocol.target_cameras):
        if serial not in serials:
            raise OmegaError(
                f"{root / identity / 'sequences' / sequence / 'images'} has no cam_{serial}.mp4.",
                f"It has {', '.join(serials)}. {_fetch(identity, sequence)}",
            )
    if not protocol.target_cameras and len(serials) < 2:
        raise OmegaError(
            f"{root / identity / 'sequences' / sequence} has only the source camera {serials[0]}.",
            f"The other cameras are the truth. {_fetch(identity, sequence)}",
        )


class _Calibration:
    """Cameras and colours of one identity."""

    def __init__(self, root: Path, identity: str, colour: str) -> None:
        self.folder, self.identity, self.colour = root / identity, identity, colour
        self.path = self.folder / "calibration" / "camera_params.json"
        self.data = read_json(self.path, "NeRSemble's camera calibration", _fetch(identity))
        for key in ("world_2_cam", "intrinsics"):
            if not isinstance(self.data, dict) or key not in self.data:
                raise OmegaError(f'{self.path} has no "{key}".', "It is no NeRSemble v2 calibration.")
        self.colours: dict[str, Any] = {}
        if colour == "calibrated":
            path = self.folder / "calibration" / "color_calibration.json"
            hint = 'Fetch it (NeRSemble v2), or give a protocol with "colour": "stored".'
            self.colours = read_json(path, "NeRSemble's colour calibration", hint)

    def camera(self, serial: str, video: Video) -> Camera:
        """The camera of the stored picture: the shared K from the sensor's to the video's pixels."""
        if serial not in self.data["world_2_cam"]:
            raise OmegaError(
                f'{self.path} has no camera {serial} in "world_2_cam".',
                "Fetch the calibration again, or leave this camera out of the protocol.",
            )
        width, height = video.size
        sensor = SENSOR if height >= width else SENSOR[::-1]
        # a height that was halved and rounded to even may be off by a pixel or two
        if abs(width * sensor[1] - height * sensor[0]) > 2 * max(sensor):
            raise OmegaError(
                f"{video.path} is {width}×{height}, which is no scaled {sensor[0]}×{sensor[1]} picture.",
                "The calibration belongs to uncropped pictures; fetch the original videos.",
            )
        K = matrix(self.data["intrinsics"], (3, 3), '"intrinsics"', self.path)
        K = np.diag([width / sensor[0], height / sensor[1], 1.0]) @ K
        name = f"world_2_cam of {serial}"
        pose = rigid(matrix(self.data["world_2_cam"][serial], (4, 4), name, self.path), name, self.path)
        return Camera(
            torch.from_numpy(K).float(), torch.from_numpy(pose).float(), width, height, "pinhole", serial
        )

    def rig_centre(self, video: Video) -> Tensor:  # [3] m
        """Where all calibrated cameras look, recorded or not."""
        return rig_centre([self.camera(serial, video) for serial in self.data["world_2_cam"]])

    def corrected(self, serial: str, video: Video, number: int) -> Tensor:
        return self._colours(serial, picture(video.frame(number)))

    def background(self, serial: str) -> Tensor | None:
        """The empty set, at whatever size it is stored; None where it was not fetched."""
        path = self.folder / "sequences" / "BACKGROUND" / f"image_{serial}.jpg"
        if not path.exists():
            return None
        from PIL import Image

        with Image.open(path) as image:
            return self._colours(serial, picture(np.asarray(image.convert("RGB"))))

    def _colours(self, serial: str, image: Tensor) -> Tensor:
        if self.colour == "linear":
            return to_srgb(image)
        if self.colour == "stored":
            return image
        if serial not in self.colours:
            raise OmegaError(
                f"The colour calibration of {self.identity} has no camera {serial}.",
                'Give a protocol with "colour": "stored".',
            )
        return colour_corrected(image, np.asarray(self.colours[serial], np.float64))


def colour_corrected(image: Tensor, matrix: np.ndarray) -> Tensor:  # [3, H, W] sRGB, [3, terms]
    """A colour matrix applied as it was made: in linear light, to products of r, g and b (see _TERMS)."""
    terms = _TERMS.get(matrix.shape[-1]) if matrix.ndim == 2 and matrix.shape[0] == 3 else None
    if terms is None:
        raise OmegaError(
            f"A colour matrix of shape {'×'.join(map(str, matrix.shape))} is not known.",
            f"3 rows with {', '.join(map(str, _TERMS))} columns are.",
        )
    r, g, b = to_linear(image)
    products = torch.stack([r**i * g**j * b**k for i, j, k in terms])
    return to_srgb(torch.einsum("ct,thw->chw", torch.from_numpy(matrix).to(image), products))


class Video:
    """One film, read by frame number; opened at the first question and decoded forward where it can be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._container: Any = None
        self._decoder: Any = None
        self._at = -1  # number of the frame that the decoder gave last
        self._times: list[int] = []  # of every frame, in presentation order

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) px."""
        stream = self._stream()
        return stream.width, stream.height

    @property
    def count(self) -> int:
        """Frames, as announced; counted where the header is silent."""
        return len(self._times) or self._stream().frames or len(self._index())

    def frame(self, number: int) -> np.ndarray:
        """[H, W, 3] uint8 RGB."""
        import av

        try:
            times = self._index()
            if number < len(times):
                stream, wanted = self._stream(), times[number]
                if self._decoder is None or not self._at < number <= self._at + FORWARD:
                    self._container.seek(wanted, stream=stream, backward=True)
                    self._decoder = self._container.decode(stream)
                for decoded in self._decoder:
                    if decoded.pts == wanted:
                        self._at = number
                        return decoded.to_ndarray(format="rgb24")
        except av.FFmpegError as error:
            self.close()
            raise OmegaError(f"{self.path} is damaged ({error}).", "Fetch this video again.") from error
        self.close()
        raise OmegaError(
            f"{self.path} has no frame {number} (of {len(times)}).",
            "Freeze the protocol on this download, or fetch the video again.",
        )

    def _index(self) -> list[int]:
        """The clock's reading at every frame: packets tell it without decoding, and at any frame rate."""
        if not self._times:
            stream = self._stream()
            packets = self._container.demux(stream)
            self._times = sorted(p.pts for p in packets if p.size and p.pts is not None)
            self._decoder = None
        return self._times

    def close(self) -> None:
        """Let the file go; the next question opens it again."""
        if self._container is not None:
            self._container.close()
        self._container = self._decoder = None

    def _stream(self) -> Any:
        import av

        if self._container is None:
            try:
                self._container = av.open(str(self.path), metadata_errors="ignore")
            except (av.FFmpegError, OSError) as error:
                raise OmegaError(
                    f"{self.path} is not a film that can be read ({error}).", "Fetch this video again."
                ) from error
            if not self._container.streams.video:
                self.close()
                raise OmegaError(f"{self.path} has no pictures in it.", "Fetch this video again.")
            self._container.streams.video[0].thread_type = "AUTO"
        return self._container.streams.video[0]
