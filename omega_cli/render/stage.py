"""render: files in, files out. Also `load_rig`, which reenact uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from omega_cli.avatar import codecs, layout, record
from omega_cli.avatar.layout import Avatar
from omega_cli.console import Report
from omega_cli.errors import OmegaError
from omega_cli.geometry.camera import Camera
from omega_cli.head.assets import load_head
from omega_cli.head.params import HeadParams
from omega_cli.render import film, orbit, selfcheck
from omega_cli.render.checkpoint import REFINER, misfit
from omega_cli.render.config import RenderConfig, parse_angles
from omega_cli.render.refiner import Refiner
from omega_cli.render.rig import Rig
from omega_cli.weights.network_file import Loaded

SHEET_CELL = 320  # px, a picture of the contact sheet
SHEET_COLUMNS = 4
SHEET_SHAPES = {
    "smile": {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9, "cheekSquintLeft": 0.4, "cheekSquintRight": 0.4},
    "jaw open, brows up": {
        "jawOpen": 0.6, "browInnerUp": 0.8, "browOuterUpLeft": 0.8, "browOuterUpRight": 0.8,
    },
    "blink": {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
}  # fmt: skip


def inputs_of(avatar: Avatar) -> list[Path]:
    """The files that posing and rendering an avatar reads."""
    return [
        avatar.mesh / layout.FLAME,
        avatar.mesh / layout.OFFSETS,
        avatar.gaussians / layout.VERTEX_GAUSSIANS,
        avatar.gaussians / layout.UV_GAUSSIANS,
    ]


def chosen_refiner(
    avatar: Avatar, refine: bool | None, own: str, device: str, report: Report
) -> Loaded[Refiner] | None:
    """The refiner for an avatar, if any. refine None: where it is there and fits, with a warning where a
    learned avatar has another one.

    Raises OmegaError where one was asked for that is not there or does not fit.
    """
    if refine is False:
        return None
    asked = bool(own or refine)
    needed = "Leave --refine out, or give a network of your own: --refiner FILE." if asked else ""
    found = REFINER.find(own, needed=needed, device=device, report=report)
    if found is None:
        return None
    path = avatar.gaussians / layout.VERTEX_GAUSSIANS
    record.needs(path, layout.command_for(path))
    colours = codecs.load_tensors(path, "colors")["colors"].shape[-1]
    why = misfit(found, colours, record.weights_of(avatar.gaussians).values())
    if not why:
        return found
    text = f"The avatar refiner {found.key} does not fit {avatar.gaussians}: {why}."
    if asked:
        again = f"{layout.command_for(path)} --source omega"
        raise OmegaError(text, f"Run `{again}` first, or use --no-refine.")
    if colours > 3:
        report.warn(f"{text} The frames are the raw ones.")
    return None


def load_rig(avatar: Avatar, device: str = "cpu", refiner: Loaded[Refiner] | None = None) -> Rig:
    """The avatar, ready to be posed and drawn.

    Raises OmegaError naming a missing file and the command that makes it.
    """
    head = load_head(device=device)
    params = codecs.load_params(avatar.mesh / layout.FLAME)
    offsets = codecs.load_offsets(avatar.mesh / layout.OFFSETS, head.v_template.shape[0])
    vertex = codecs.load_tensors(
        avatar.gaussians / layout.VERTEX_GAUSSIANS, "quats", "scales", "opacities", "colors"
    )
    names = ("quats", "scales", "opacities", "colors", "local_offsets", "face_index", "barycentric")
    uv = codecs.load_tensors(avatar.gaussians / layout.UV_GAUSSIANS, *names)
    return Rig.build(
        head,
        params.to(device),
        offsets.to(device),
        {k: v.to(device) for k, v in vertex.items()},
        {k: v.to(device) for k, v in uv.items()},
        None if refiner is None else refiner.net,
    )


def run(
    avatar: Avatar,
    config: RenderConfig,
    *,
    device: str = "cpu",
    seed: int = 0,
    report: Report,
    force: bool = False,
) -> Path:
    """Write renders/<name>/; returns the folder."""
    folder = avatar.renders / config.name
    refiner = chosen_refiner(avatar, config.refine, config.refiner, device, report)
    rig = load_rig(avatar, device, refiner)
    check = [p for p in _source_files(avatar) if p.is_file()]
    cameras_file = [Path(config.cameras)] if config.cameras else []
    with (
        torch.no_grad(),
        record.writing_stage(
            avatar, stage="render", folder=folder, config=config, seed=seed,
            inputs=[*inputs_of(avatar), *check, *cameras_file], weights=used_weights(rig, refiner),
            device=device, report=report, force=force,
        ) as out,
    ):  # fmt: skip
        still = rig.params if config.expression == "photo" else rig.neutral()
        vertices = rig.vertices(still)[0]
        gaussians = rig.pose(vertices)
        framing = orbit.frame_head(vertices.cpu())
        cameras = _cameras(config, framing)
        codecs.save_cameras(out.path / layout.CAMERAS, cameras)
        background = film.background_color(config.background)
        transparent = config.background == "transparent"

        @torch.no_grad()
        def pictures() -> Iterator[Tensor]:
            """Over the background [3, H, W]; transparent ones with their RGBA below [7, H, W]."""
            behind = background.to(device)
            for camera in orbit.on_device(cameras, device):
                seen = rig.draw(
                    gaussians, camera, background=None if transparent else behind, backend=config.backend
                )
                out.metrics["backend"] = seen.backend
                image = seen.image
                if transparent:
                    flat = image + behind[:, None, None] * (1 - seen.alpha)
                    image = torch.cat([flat, film.to_rgba(image, seen.alpha)])
                yield image

        def frames() -> Iterator[np.ndarray]:
            for i, pixels in enumerate(film.ahead(film.pixels_of(pictures()))):
                flat, rgba = pixels[..., :3], pixels[..., 3:]
                if config.keep_frames or transparent:
                    kept = film.from_bytes(rgba if transparent else flat)
                    codecs.save_image(out.path / layout.frame(i), kept)
                bar.advance()
                yield flat

        with report.progress("render", total=len(cameras)) as bar:
            codecs.write_video(out.path / layout.VIDEO, frames(), config.fps, metadata=provenance(avatar))
        source = _load_source(avatar) if len(check) == len(_source_files(avatar)) else None
        if source is not None:
            out.metrics |= self_check(rig, *source, config.backend)
        photo = source[0] if source is not None else None
        codecs.save_image(out.path / layout.SHEET, _sheet(rig, framing, background, photo, config.backend))
        out.metrics["gaussians"], out.metrics["refined"] = len(gaussians), refiner is not None
        out.summary = _summary(len(cameras), out.metrics)
    return folder


def used_weights(rig: Rig, refiner: Loaded[Refiner] | None) -> dict[str, str]:
    """Digests for stage.json."""
    return {"open_head": rig.head.sha256} | ({} if refiner is None else refiner.digests)


def provenance(avatar: Avatar) -> dict[str, str]:
    """Tags of every film: that it is synthetic, and of which picture."""
    name = record.read_avatar(avatar).get("source", {}).get("name", "unknown")
    return {
        "title": "Omega avatar",
        "comment": f"Synthetic: a 3D avatar of the picture {name}, rendered by omega.",
        "synthetic": "true",
    }


def self_check(
    rig: Rig,
    source: Tensor,
    parsing: Tensor,
    camera: Camera,
    params: HeadParams,
    backend: str = "auto",
) -> dict[str, float]:
    """Drive the avatar with the photo's own parameters, seen by the photo's own camera."""
    device = rig.shaped.device
    background = torch.full((3,), 0.5)
    gaussians = rig.pose(rig.vertices(params.to(device))[0])
    seen = rig.draw(gaussians, camera.to(device), background=background.to(device), backend=backend)
    return selfcheck.compare_with_source(seen.image.cpu(), seen.alpha.cpu(), source, parsing, background)


def _source_files(avatar: Avatar) -> list[Path]:
    names = (layout.SOURCE_IMAGE, layout.SOURCE_PARSING, layout.CAMERAS, layout.FLAME)
    return [avatar.source / name for name in names]


def _load_source(avatar: Avatar) -> tuple[Tensor, Tensor, Camera, HeadParams]:
    image, parsing, cameras, flame = _source_files(avatar)
    source = codecs.load_image(image, 4)
    camera = codecs.load_cameras(cameras)[0].resized(source.shape[2], source.shape[1])
    return source, codecs.load_labels(parsing), camera, codecs.load_params(flame)


def _cameras(config: RenderConfig, framing: orbit.Framing) -> list[Camera]:
    if config.cameras:
        return codecs.load_cameras(Path(config.cameras))
    azimuths = parse_angles(config.azimuth, "azimuth")
    elevations = parse_angles(config.elevation, "elevation")
    if azimuths:
        return orbit.directions(framing, azimuths, elevations, config.size)
    return orbit.turntable(framing, config.frames, config.size)


def _sheet(
    rig: Rig, framing: orbit.Framing, background: Tensor, photo: Tensor | None, backend: str
) -> Tensor:
    """The photo, eight directions with the photo's expression, three expressions from neutral."""
    device = rig.shaped.device

    def look(params: HeadParams, azimuth: float, elevation: float = 0.0) -> Tensor:
        gaussians = rig.pose(rig.vertices(params)[0])
        camera = framing.camera(azimuth, elevation, SHEET_CELL).to(device)
        return rig.draw(gaussians, camera, background=background.to(device), backend=backend).image.cpu()

    pictures, labels = [], []
    if photo is not None:
        flat = photo[:3] * photo[3:] + background[:, None, None] * (1 - photo[3:])
        pictures.append(torch.nn.functional.interpolate(flat[None], (SHEET_CELL,) * 2, mode="area")[0])
        labels.append("photo")
    for azimuth in orbit.SHEET_AZIMUTHS:
        pictures.append(look(rig.params, azimuth))
        labels.append(f"{azimuth:.0f}°")
    for name, shapes in SHEET_SHAPES.items():
        if set(shapes) <= set(rig.head.expression_names):
            pictures.append(look(rig.with_shapes(shapes), 0.0))
            labels.append(name)
    return codecs.contact_sheet(pictures, SHEET_COLUMNS, labels)


def _summary(frames: int, metrics: dict[str, float]) -> str:
    text = f"{frames} frames"
    if "psnr_head" in metrics:
        text += f", photo again at {metrics['psnr_head']:.1f} dB"
    return text
