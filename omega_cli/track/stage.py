"""track: files in, files out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from omega_cli import weights
from omega_cli.avatar import codecs, folders, layout, record
from omega_cli.avatar.layout import Avatar
from omega_cli.console import NullReport, Report
from omega_cli.errors import OmegaError
from omega_cli.head.assets import load_head
from omega_cli.head.model import HeadModel
from omega_cli.track import portrait, video
from omega_cli.track.align68 import load_aligner
from omega_cli.track.config import TrackConfig
from omega_cli.track.image_io import decode_photo
from omega_cli.track.landmarks import Landmarker
from omega_cli.track.overlay import draw_overlay
from omega_cli.track.parsing import Parser
from omega_cli.track.portrait import TrackedImage
from omega_cli.track.video import TrackedVideo

PARSERS = {"own": "face_parser", "bisenet": "bisenet_parsing"}
"""Registry entry of each choice of `TrackConfig.parser`."""
NEUTRAL_FIELDS = (
    "expression", "global_orient", "neck_pose", "jaw_pose", "leye_pose", "reye_pose", "transl",
)  # fmt: skip


def run(
    avatar: Avatar,
    config: TrackConfig,
    *,
    image: Path,
    device: str = "cpu",
    seed: int = 0,
    report: Report,
    force: bool = False,
) -> Path:
    """Photo -> source/. Nothing here is random; `seed` is recorded only."""
    data = read_input(image)
    photo = decode_photo(data, image.name)
    model = load_head()
    with record.writing_stage(
        avatar, stage="track", folder=avatar.source, config=config, seed=seed, inputs=[image],
        weights={"open_head": model.sha256, **used_weights(photo_networks(config))}, device=device,
        report=report, force=force,
    ) as out:  # fmt: skip
        task = weights.resolve("face_landmarker", report).read_bytes()
        with report.progress("track"), Landmarker(task) as landmarker:
            networks = _networks(landmarker, config, device, report)
            tracked = portrait.track_photo(
                photo,
                model,
                networks,
                face_index=config.face,
                lens=config.lens,
                name=image.name,
            )
        for note in tracked.notes:
            report.note(note)
        write_source(out.path, tracked, model, image.name)
        out.metrics |= tracked.metrics
        out.summary = (
            f"face {tracked.metrics['face_px']:.0f} px, landmarks within "
            f"{tracked.metrics['reprojection_percent']:.2f} % of it"
        )
    return avatar.source


def track_image(
    path: Path, model: HeadModel | None = None, config: TrackConfig | None = None, *, device: str = "cpu",
    report: Report | None = None,
) -> TrackedImage:  # fmt: skip
    """Track one photo without an avatar folder. Raises OmegaError as `omega track` does."""
    config, report, path = config or TrackConfig(), report or NullReport(), Path(path)
    photo = decode_photo(read_input(path), path.name)
    with Landmarker(weights.resolve("face_landmarker", report).read_bytes()) as landmarker:
        return portrait.track_photo(
            photo, model or load_head(), _networks(landmarker, config, device, report),
            face_index=config.face, name=path.name, lens=config.lens,
        )  # fmt: skip


def track_video(
    path: Path, model: HeadModel | None = None, config: TrackConfig | None = None, *,
    report: Report | None = None,
) -> TrackedVideo:  # fmt: skip
    """Motion of the face in a film (video or animated GIF), on an even time grid.

    What a user should know (frames filled in, a broken tail) goes to report.warn and `.warnings`.
    Raises OmegaError for anything without a usable face.
    """
    config, report, path = config or TrackConfig(), report or NullReport(), Path(path)
    require_file(path)
    task = weights.resolve("face_landmarker", report).read_bytes()
    try:
        with path.open("rb") as stream:
            tracked = video.track_film(
                stream, model or load_head(), task, name=path.name, smooth_strength=config.smooth,
                max_frames=config.max_frames, report=report,
            )  # fmt: skip
    except PermissionError as error:
        raise OmegaError(f"{path} may not be read (permission denied).") from error
    for text in tracked.warnings:
        report.warn(text)
    return tracked


def run_film(path: Path, output: Path, config: TrackConfig, *, report: Report) -> Path:
    """Film -> motion file at `output` (flame.npz keys over T frames, plus neutral, times and valid)."""
    model = load_head()
    tracked = track_video(path, model, config, report=report)
    with folders.writing_file(output) as scratch:
        save_motion(scratch, tracked, model)
    report.note(
        f"{path.name}: {len(tracked.times)} frames at {tracked.fps:.2f} frames/s, landmarks within "
        f"{tracked.metrics['reprojection_percent']:.2f} % of the face"
    )
    return output


def save_motion(path: Path, tracked: TrackedVideo, model: HeadModel) -> None:
    """Motion file: flame.npz over T frames with fps, plus times [T], valid [T] and the person's neutral
    face (`neutral_<name>`), which reenact takes motion relative to."""
    codecs.save_params(path, tracked.params, fps=tracked.fps, head=model)
    neutral = {f"neutral_{name}": getattr(tracked.neutral, name) for name in NEUTRAL_FIELDS}
    codecs.save_arrays(path, **codecs.load_arrays(path), **neutral, times=tracked.times, valid=tracked.valid)


def write_source(folder: Path, tracked: TrackedImage, model: HeadModel, name: str) -> None:
    """All files of source/ but stage.json."""
    codecs.save_image(folder / layout.SOURCE_IMAGE, tracked.image)
    codecs.save_labels(folder / layout.SOURCE_PARSING, tracked.label_map)
    codecs.save_json(
        folder / layout.SOURCE_CROP, {"schema": layout.CROP_SCHEMA, "photo": name, **tracked.crop}
    )
    codecs.save_arrays(
        folder / layout.SOURCE_LANDMARKS,
        points=tracked.points68.astype(np.float32), scores=tracked.scores68.astype(np.float32),
        points478=tracked.points478.astype(np.float32), blendshapes=tracked.blendshapes.astype(np.float32),
    )  # fmt: skip
    codecs.save_params(folder / layout.FLAME, tracked.params, head=model)
    codecs.save_cameras(folder / layout.CAMERAS, [tracked.camera])
    seen = tracked.points478 if len(tracked.projected) == 478 else tracked.points68
    overlay = draw_overlay(tracked.image, model, tracked.params, tracked.camera, seen, tracked.projected)
    codecs.save_image(folder / layout.SOURCE_OVERLAY, overlay)


# --- inputs -------------------------------------------------------------------------------------------


def require_file(path: Path) -> None:
    """Raises OmegaError unless `path` is a file with something in it."""
    if path.is_dir():
        raise OmegaError(f"{path} is a folder, not a picture.", "Give the path of one file.")
    if not path.exists():
        raise OmegaError(f"There is no file {path}.", "Check the name.")
    if not path.is_file():
        raise OmegaError(f"{path} is not a regular file.", "Give the path of a picture.")
    if path.stat().st_size == 0:
        raise OmegaError(f"{path} is empty (0 bytes).", "Copy or download it again.")


def read_input(path: Path) -> bytes:
    """A photo's bytes; for a film says what to do with it."""
    require_file(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        hint = "Check the file's permissions."
        raise OmegaError(f"{path} cannot be read: {error.strerror}.", hint) from error
    if is_film(data[:64]):
        raise OmegaError(
            f"{path} is a film, and an avatar starts from a picture.",
            f"For its motion: `omega track {path} -o motion.npz`. For an avatar: save one frame as PNG.",
        )
    return data


def is_film(head: bytes) -> bool:
    """Whether a file's first bytes are those of a video container (animated pictures are pictures)."""
    if head[4:8] == b"ftyp":
        return head[8:12] not in (b"avif", b"avis", b"heic", b"heix", b"mif1")
    avi = head[:4] == b"RIFF" and head[8:12] == b"AVI "
    return avi or head.startswith((b"\x1a\x45\xdf\xa3", b"\x00\x00\x01\xba", b"FLV\x01", b"OggS"))


def _networks(landmarker: Landmarker, config: TrackConfig, device: str, report: Any) -> portrait.Networks:
    aligner = load_aligner(device) if config.landmarks == "face-alignment" else None
    parser = load_parser(config.parser, report)
    return portrait.Networks(landmarker, parser, load_saliency(report), aligner)


def load_parser(which: str, report: Any = None) -> Parser:
    """The face parser of that name (a key of PARSERS)."""
    path = weights.resolve(PARSERS[which], report)
    if which == "own":
        from omega_cli.track import parsing_checkpoint

        return parsing_checkpoint.load_parser(path.read_bytes(), str(path))
    from omega_cli.track.parsing_bisenet import BiSeNet

    return BiSeNet.from_state(torch.load(path, map_location="cpu", weights_only=True))


def load_saliency(report: Any) -> Any:
    """The network of `matte.saliency`, a cv2.dnn net."""
    import cv2

    onnx = np.frombuffer(weights.resolve("u2netp", report).read_bytes(), np.uint8)
    return cv2.dnn.readNetFromONNX(onnx)


def photo_networks(config: TrackConfig) -> tuple[str, ...]:
    """Registry entries of the networks that a photo needs."""
    return ("face_landmarker", "u2netp", PARSERS[config.parser])


def used_weights(names: tuple[str, ...]) -> dict[str, str]:
    """Registry digests of the networks, for stage.json."""
    return {name: digest for name in names if (digest := weights.digest(name))}
