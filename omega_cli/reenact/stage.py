"""reenact: files in, files out."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from omega_cli import weights
from omega_cli.avatar import codecs, folders, layout, record
from omega_cli.avatar.layout import Avatar
from omega_cli.console import Report
from omega_cli.errors import OmegaError
from omega_cli.geometry.camera import Camera
from omega_cli.head.model import HeadModel
from omega_cli.head.params import HeadParams
from omega_cli.reenact.config import ReenactConfig
from omega_cli.reenact.driver import DriverMotion, letterbox
from omega_cli.reenact.transfer import transfer_motion
from omega_cli.render import film, orbit
from omega_cli.render.rig import Rig
from omega_cli.render.stage import chosen_refiner, inputs_of, load_rig, provenance, used_weights
from omega_cli.track import video
from omega_cli.track.config import TrackConfig
from omega_cli.track.stage import NEUTRAL_FIELDS, require_file, track_video

SHEET_FRAMES = 8
LANDMARKER = "face_landmarker"


@dataclass(frozen=True)
class Scene:
    """What is filmed: the rig, its motion, one camera a frame, the colour behind."""

    rig: Rig
    motion: HeadParams
    cameras: list[Camera]
    background: Tensor


def run(
    avatar: Avatar,
    config: ReenactConfig,
    *,
    driver: Path,
    output: Path | None = None,
    device: str = "cpu",
    seed: int = 0,
    report: Report,
    force: bool = False,
) -> Path:
    """Write reenact/<driver>/; returns the film (a copy at `output` if given)."""
    folder = avatar.reenact / name_of(driver)
    if output is not None and output.resolve() == driver.resolve():
        raise OmegaError(f"{output} is the driver itself.", "Give -o another file name.")
    require_file(driver)
    refiner = chosen_refiner(avatar, config.refine, config.refiner, device, report)
    rig = load_rig(avatar, device, refiner)
    inputs = inputs_of(avatar)
    if config.camera == "source":
        inputs += [avatar.source / layout.CAMERAS, avatar.source / layout.FLAME]
    with (
        torch.no_grad(),
        record.writing_stage(
            avatar, stage="reenact", folder=folder, config=config, seed=seed, inputs=[*inputs, driver],
            weights=used_weights(rig, refiner), device=device, report=report, force=force,
        ) as out,
    ):  # fmt: skip
        started = time.perf_counter()
        moved = load_driver(driver, folder, rig.head, config, report)
        out.weights.update(moved.weights)
        out.metrics["track_seconds"] = round(time.perf_counter() - started, 3)
        save_motion(out.path / layout.MOTION, moved, rig.head)
        scene = _scene(rig, avatar, config, moved)
        codecs.save_cameras(out.path / layout.CAMERAS, scene.cameras)
        sheet = _Sheet(len(scene.motion))
        started = time.perf_counter()
        with report.progress("reenact", total=len(scene.motion)) as bar:

            def frames() -> Iterator[np.ndarray]:
                beside = driver_pictures(moved, config.size)
                pictures = film.pixels_of(_pictures(scene, config, out.metrics))
                for i, picture in enumerate(film.ahead(pictures)):
                    given = next(beside, None)
                    sheet.offer(i, picture, given)
                    if config.keep_frames:
                        codecs.save_image(out.path / layout.frame(i), film.from_bytes(picture))
                    bar.advance()
                    yield (
                        np.hstack([given, picture]) if config.side_by_side and given is not None else picture
                    )

            codecs.write_video(
                out.path / layout.VIDEO,
                frames(),
                moved.fps,
                audio_from=moved.film if config.audio else None,
                metadata=provenance(avatar) | {"driver": driver.name},
            )
        seconds = time.perf_counter() - started
        if config.side_by_side and moved.film is None:
            out.warn("The driver is a motion file, so there is no film to show at the side.")
        codecs.save_image(out.path / layout.SHEET, sheet.image(moved.fps))
        out.metrics |= {
            "frames": len(scene.motion),
            "fps": moved.fps,
            "frames_per_second": round(len(scene.motion) / seconds, 2),
            "lost_frames": int((~moved.valid).sum()),
            "refined": refiner is not None,
        }
        out.summary = f"{len(scene.motion)} frames at {len(scene.motion) / seconds:.1f} frames/s"
    video = folder / layout.VIDEO
    if output is None:
        return video
    with folders.writing_file(output) as path:
        shutil.copyfile(video, path)
    return output


# --- the driver ------------------------------------------------------------------------------------


def name_of(driver: Path) -> str:
    """Folder of a driver under reenact/: the file's stem; for .../reenact/NAME/motion.npz it is NAME."""
    stem = driver.parent.name if driver.name == layout.MOTION and driver.parent.name else driver.stem
    return stem.lstrip(".") or "driver"


def load_driver(
    driver: Path, folder: Path, head: HeadModel, config: ReenactConfig, report: Report
) -> DriverMotion:
    """The motion of a film (tracked, or kept from an earlier run on the same film) or of a motion file.

    Raises OmegaError for anything that is neither, and whatever tracking says about a film.
    """
    if driver.suffix.lower() == ".npz":
        return _cut(_load_motion(driver, None, head), config.max_frames)
    landmarker = weights.resolve(LANDMARKER, report)
    digests = {LANDMARKER: record.digest(landmarker)}
    kept = _kept_motion(driver, folder, config, digests, head)
    if kept is not None:
        report.note(f"{driver.name}: the motion tracked before is used again")
        return kept
    tracked = track_video(driver, head, TrackConfig(max_frames=config.max_frames), report=report)
    times, valid = torch.as_tensor(tracked.times), torch.as_tensor(tracked.valid)
    return DriverMotion(tracked.params, tracked.neutral, tracked.fps, times, valid, driver, digests)


def save_motion(path: Path, moved: DriverMotion, head: HeadModel) -> None:
    """The driver's own motion as flame.npz over T frames, with its neutral, times and valid frames."""
    codecs.save_params(path, moved.params, fps=moved.fps, head=head)
    neutral = {f"neutral_{name}": getattr(moved.neutral, name) for name in NEUTRAL_FIELDS}
    extra = {"times": moved.times, "valid": moved.valid}
    codecs.save_arrays(path, **codecs.load_arrays(path), **neutral, **extra)


def _load_motion(path: Path, film_path: Path | None, head: HeadModel) -> DriverMotion:
    """A motion file; what it does not say of the driver's neutral is estimated."""
    params, meta = codecs.load_params(path), codecs.load_params_meta(path)
    if params.expression.shape[1] != head.E:
        raise OmegaError(
            f"{path} moves {params.expression.shape[1]} expression shapes, this head has {head.E}.",
            "Track the driver again with the head that the avatar was made with.",
        )
    arrays = codecs.load_arrays(path)
    fps = meta["fps"] or 25.0
    frames = len(params)
    times = torch.as_tensor(arrays.get("times", np.arange(frames) / fps))
    valid = torch.as_tensor(arrays.get("valid", np.ones(frames, bool))).bool()
    if len(times) != frames or len(valid) != frames or frames == 0:
        raise OmegaError(f"{path} holds {frames} frames but {len(times)} times.", "Track the driver again.")
    neutral = video.neutral_of(params, valid.numpy() if valid.any() else np.ones(frames, bool))
    known = [name for name in NEUTRAL_FIELDS if f"neutral_{name}" in arrays]
    still = {name: torch.from_numpy(arrays[f"neutral_{name}"].astype(np.float32)) for name in known}
    neutral = neutral.replace(**still)
    return DriverMotion(params, neutral, fps, times, valid, film_path, {})


def _kept_motion(
    driver: Path, folder: Path, config: ReenactConfig, digests: dict[str, str], head: HeadModel
) -> DriverMotion | None:
    """The motion of an earlier run, if it was of this very film, with these weights and as many frames."""
    try:
        known = record.read_stage(folder)
        same = (
            known["inputs"].get(f"external:{driver.name}") == record.digest(driver)
            and all(known["weights"].get(name) == sha for name, sha in digests.items())
            and known["params"].get("max_frames") == config.max_frames
            and known["outputs"].get(layout.MOTION) == record.digest(folder / layout.MOTION)
        )
        kept = _load_motion(folder / layout.MOTION, driver, head) if same else None
    except (OmegaError, OSError):
        return None
    return None if kept is None else dataclasses.replace(kept, weights=digests)


def _cut(moved: DriverMotion, max_frames: int) -> DriverMotion:
    if not max_frames or len(moved.params) <= max_frames:
        return moved
    part = slice(0, max_frames)
    return dataclasses.replace(
        moved, params=moved.params.frames(part), times=moved.times[part], valid=moved.valid[part]
    )


def driver_pictures(moved: DriverMotion, size: int) -> Iterator[np.ndarray]:
    """The film's picture at each time of the motion, letterboxed to `size`; nothing for a motion file."""
    if moved.film is None:
        return
    with moved.film.open("rb") as stream:
        source = video.open_film(stream, moved.film.name).read(stream, moved.film.name)
        first, shown = next(source, (0.0, None))
        if shown is None:
            return
        coming = next(source, None)
        slack = 0.25 / moved.fps
        fitted = letterbox(shown, size)
        for moment in moved.times.tolist():
            changed = False
            while coming is not None and coming[0] - first <= moment + slack:
                shown, coming, changed = coming[1], next(source, None), True
            if changed:
                fitted = letterbox(shown, size)
            yield fitted


# --- the film --------------------------------------------------------------------------------------


def _scene(rig: Rig, avatar: Avatar, config: ReenactConfig, moved: DriverMotion) -> Scene:
    """Where the head rests and which cameras see it, and the motion transferred to there."""
    rest = rig.neutral().replace(expression=rig.params.expression, jaw_pose=rig.params.jaw_pose)
    frames = len(moved.params)
    if config.camera == "source":
        placed = codecs.load_params(avatar.source / layout.FLAME).to(rig.shaped.device)
        rest = rest.replace(
            global_orient=placed.global_orient, neck_pose=placed.neck_pose, transl=placed.transl
        )
        camera = codecs.load_cameras(avatar.source / layout.CAMERAS)[0].resized(config.size, config.size)
        cameras = [camera] * frames
    else:
        framing = orbit.frame_portrait(rig.vertices(rig.neutral())[0].cpu())
        if config.camera == "orbit":
            cameras = orbit.swing(framing, frames, config.size, moved.fps)
        else:
            cameras = [framing.camera(0.0, 0.0, config.size, "front")] * frames
    motion = transfer_motion(
        moved.params.to(rig.shaped.device),
        moved.neutral.to(rig.shaped.device),
        rest,
        rig.head.expression_names,
        relative=config.relative,
        keep_expression=config.keep_expression,
        expression_gain=config.expression_gain,
        head_gain=config.head_gain,
        max_turn_deg=config.max_turn,
        max_shift=config.max_shift,
    )
    return Scene(rig, motion, cameras, film.background_color(config.background))


def _pictures(scene: Scene, config: ReenactConfig, metrics: dict) -> Iterator[Tensor]:
    """Every frame [3, H, W]. Runs in the film maker's thread."""
    for seen in film.drawn(scene.rig, scene.motion, scene.cameras, scene.background, config.backend):
        metrics["backend"] = seen.backend
        yield seen.image


class _Sheet:
    """Keeps a few frames, evenly spaced, for a picture of the whole film."""

    def __init__(self, frames: int) -> None:
        self.wanted = set(np.linspace(0, frames - 1, min(SHEET_FRAMES, frames)).round().astype(int).tolist())
        self.kept: list[tuple[int, np.ndarray, np.ndarray | None]] = []

    def offer(self, index: int, picture: np.ndarray, given: np.ndarray | None) -> None:
        if index in self.wanted:
            self.kept.append((index, picture, given))

    def image(self, fps: float) -> Tensor:
        """Driver above, avatar below; times as labels."""
        times = [f"{index / fps:.2f} s" for index, _, _ in self.kept]
        below = [film.from_bytes(picture) for _, picture, _ in self.kept]
        above = [film.from_bytes(given) for _, _, given in self.kept if given is not None]
        if len(above) != len(below):
            return codecs.contact_sheet(_small(below), 4, times)
        rows, labels = [], []
        for start in range(0, len(below), 4):
            part = slice(start, start + 4)
            blank = [torch.ones_like(below[0])] * (4 - len(below[part]) if start else 0)
            rows += [*above[part], *blank, *below[part], *blank]
            labels += [*times[part], *[""] * len(blank), *[""] * (len(below[part]) + len(blank))]
        return codecs.contact_sheet(_small(rows), min(4, len(below)), labels)


def _small(images: list[Tensor], size: int = 256) -> list[Tensor]:
    """Pictures reduced for the sheet; smaller ones stay."""
    if images[0].shape[1] <= size:
        return images
    return [torch.nn.functional.interpolate(image[None], (size, size), mode="area")[0] for image in images]
