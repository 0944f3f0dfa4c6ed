"""reenact: files in, files out."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from omega_cli.avatar import codecs, folders, layout, record
from omega_cli.avatar.layout import Avatar
from omega_cli.console import Report
from omega_cli.errors import OmegaError
from omega_cli.gaussians.splat import render
from omega_cli.geometry.camera import Camera
from omega_cli.head.params import HeadParams
from omega_cli.reenact import driver as drivers
from omega_cli.reenact.config import ReenactConfig
from omega_cli.reenact.transfer import transfer_motion
from omega_cli.render import film, orbit
from omega_cli.render.rig import Rig
from omega_cli.render.stage import inputs_of, load_rig, provenance

CHUNK = 32  # frames posed at once: 32 x 10 k vertices is 4 MB
SHEET_FRAMES = 8
FRONT_FILL = 0.84  # ours: room around the resting head for turns and nods


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
    folder = avatar.reenact / drivers.name_of(driver)
    if output is not None and output.resolve() == driver.resolve():
        raise OmegaError(f"{output} is the driver itself.", "Give -o another file name.")
    rig = load_rig(avatar, device)
    inputs = inputs_of(avatar)
    if config.camera == "source":
        inputs += [avatar.source / layout.CAMERAS, avatar.source / layout.FLAME]
    with (
        torch.no_grad(),
        record.writing_stage(
            avatar, stage="reenact", folder=folder, config=config, seed=seed, inputs=[*inputs, driver],
            weights={"open_head": rig.head.sha256}, device=device, report=report, force=force,
        ) as out,
    ):  # fmt: skip
        started = time.perf_counter()
        moved = drivers.load(driver, folder, rig.head, config.max_frames, report)
        out.weights.update(moved.weights)
        out.metrics["track_seconds"] = round(time.perf_counter() - started, 3)
        drivers.save(out.path / layout.MOTION, moved, rig.head)
        if not moved.valid.all():
            lost = int((~moved.valid).sum())
            out.warn(f"No face in {lost} of {len(moved.valid)} driver frames; their motion is filled in.")
        scene = _scene(rig, avatar, config, moved)
        codecs.save_cameras(out.path / layout.CAMERAS, scene.cameras)
        sheet = _Sheet(len(scene.motion))
        started = time.perf_counter()
        with report.progress("reenact", total=len(scene.motion)) as bar:

            def frames() -> Iterator[np.ndarray]:
                beside = drivers.pictures(moved, config.size)
                for i, picture in enumerate(film.ahead(_pictures(scene, config, out.metrics))):
                    given = next(beside, None)
                    sheet.offer(i, picture, given)
                    if config.keep_frames:
                        codecs.save_image(out.path / layout.frame(i), _to_tensor(picture))
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
        }
        out.summary = f"{len(scene.motion)} frames at {len(scene.motion) / seconds:.1f} frames/s"
    video = folder / layout.VIDEO
    if output is None:
        return video
    with folders.writing_file(output) as path:
        shutil.copyfile(video, path)
    return output


def _scene(rig: Rig, avatar: Avatar, config: ReenactConfig, moved: drivers.DriverMotion) -> Scene:
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
        framing = orbit.frame_head(rig.vertices(rig.neutral())[0].cpu(), FRONT_FILL)
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


def _pictures(scene: Scene, config: ReenactConfig, metrics: dict) -> Iterator[np.ndarray]:
    """Every frame, uint8 [H, W, 3]. Runs in the film maker's thread."""
    device = scene.rig.shaped.device
    background = scene.background.to(device)
    with torch.no_grad():
        for start in range(0, len(scene.motion), CHUNK):
            for i, vertices in enumerate(
                scene.rig.vertices(scene.motion.frames(slice(start, start + CHUNK)))
            ):
                camera = scene.cameras[start + i].to(device)
                gaussians = scene.rig.pose(vertices)
                seen = render(gaussians, camera, background=background, backend=config.backend)
                metrics["backend"] = seen.backend
                yield film.to_bytes(seen.image[:3])


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
        below = [_to_tensor(picture) for _, picture, _ in self.kept]
        above = [_to_tensor(given) for _, _, given in self.kept if given is not None]
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


def _to_tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
