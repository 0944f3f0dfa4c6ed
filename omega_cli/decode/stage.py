"""decode, files in, files out."""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from torch import Tensor

from omega_cli.avatar import codecs, layout, record
from omega_cli.avatar.crop import photo_area
from omega_cli.avatar.layout import Avatar
from omega_cli.console import Report
from omega_cli.decode.analytic import decode_surface
from omega_cli.decode.checkpoint import DECODER, misfit
from omega_cli.decode.config import DecodeConfig
from omega_cli.decode.fit import fit_pictures
from omega_cli.decode.learned import decode_learned, refine_decoded
from omega_cli.decode.network import AvatarDecoder, UVLayout
from omega_cli.decode.pictures import Picture, photo_picture, view_picture
from omega_cli.errors import OmegaError
from omega_cli.gaussians.binding import BoundGaussians
from omega_cli.gaussians.model import Gaussians
from omega_cli.gaussians.ply import to_ply
from omega_cli.gaussians.splat import render
from omega_cli.geometry.camera import perspective
from omega_cli.geometry.raster import rasterize
from omega_cli.head.assets import load_head
from omega_cli.head.model import HeadModel
from omega_cli.weights.network_file import Loaded

PREVIEW_VIEWS, PREVIEW_SIZE = (0.0, 90.0), 512  # azimuths in degrees; px


def run(
    avatar: Avatar,
    config: DecodeConfig,
    *,
    device: str = "cpu",
    seed: int = 0,
    report: Report,
    force: bool = False,
) -> Path:
    """uv/ + mesh/ -> gaussians/, fitted to source/ and views/."""
    inputs = [
        avatar.uv / layout.FEATURES,
        avatar.mesh / layout.FLAME,
        avatar.mesh / layout.OFFSETS,
    ]
    for path in inputs:
        record.needs(path, layout.command_for(path))
    model = _head(device)
    pictured = picture_files(avatar) if config.fit_steps else []
    with (
        torch.no_grad(),
        record.writing_stage(
            avatar,
            stage="decode",
            folder=avatar.gaussians,
            config=config,
            seed=seed,
            inputs=[*inputs, *pictured],
            weights={"open_head": model.sha256},
            device=device,
            report=report,
            force=force,
        ) as out,
        report.progress("decode", 1 + (config.fit_steps if pictured else 0)) as task,
    ):
        params = codecs.load_params(avatar.mesh / layout.FLAME).to(device)
        offsets = codecs.load_offsets(avatar.mesh / layout.OFFSETS, len(model.v_template)).to(device)
        uv = load_uv_map(avatar.uv / layout.FEATURES, device)
        vertices = model.canonical(params.betas, offsets)
        decoded = decode_surface(
            model,
            vertices,
            eye_centres=(model.J_regressor @ vertices)[3:5],
            features=uv["features"],
            weight=uv["weight"],
            texel_sigma=config.texel_sigma,
            opacity=config.opacity,
            vertex_opacity=config.vertex_opacity,
        )
        fitted = None
        if pictured:
            pictures = load_pictures(avatar, pictured, model, vertices, device)
            generator = torch.Generator().manual_seed(seed)
            photo, *views = pictures
            fit = fit_pictures(
                model, vertices, decoded, photo, views, config.fit_steps, generator, task.advance
            )
            fitted = fit.changes
            out.metrics["photo_psnr"] = dict(zip(("analytic", "fitted"), fit.psnr, strict=True))
        elif config.fit_steps:
            out.warn(
                f"The Gaussians are not fitted to the photo: {avatar.source} lacks it, its parsing, camera or"
                f" fit, or {avatar.views} a view."
            )
        learned = chosen_network(avatar, config, model, uv, device, out)
        if learned is not None:
            out.weights |= learned.digests
            where = _layout(model, uv["features"].shape[-1])
            seen = uv["features"], uv["weight"], uv["identity"]
            decoded = decode_learned(learned.net, decoded, where, *seen, vertices, model.faces, fitted)
        elif fitted is not None:
            decoded = refine_decoded(decoded, fitted, vertices, model.faces)
        bound = BoundGaussians.bind(
            decoded.uv, decoded.face_index, decoded.barycentric, decoded.vertex, vertices, model.faces
        )
        uv_tensors, vertex_tensors = bound.tensors()
        codecs.save_tensors(out.path / layout.UV_GAUSSIANS, **uv_tensors)
        codecs.save_tensors(out.path / layout.VERTEX_GAUSSIANS, **vertex_tensors)
        everything = bound.canonical
        (out.path / layout.CANONICAL_PLY).write_bytes(to_ply(everything))
        codecs.save_image(out.path / layout.SHEET, preview(everything, vertices))
        out.metrics["uv_gaussians"], out.metrics["vertex_gaussians"] = len(decoded.uv), len(decoded.vertex)
        out.metrics["colours"] = decoded.uv.colors.shape[1]
        out.summary = f"{len(decoded.uv)} + {len(decoded.vertex)} Gaussians"
        task.advance()
    return avatar.gaussians


@functools.lru_cache(maxsize=1)
def _head(device: str) -> HeadModel:
    """The committed head; kept for the next avatar."""
    return load_head(device=device)


@functools.lru_cache(maxsize=1)
def _layout(model: HeadModel, size: int) -> UVLayout:
    return UVLayout.of(model, size)


def chosen_network(
    avatar: Avatar,
    config: DecodeConfig,
    model: HeadModel,
    uv: dict[str, Tensor],
    device: str,
    out: record.StageWriter,
) -> Loaded[AvatarDecoder] | None:
    """The network that the settings mean, if any. One that was asked for and is not there or does not fit is
    an OmegaError; where nobody asked, one that does not fit is a warning."""
    if config.source == "analytic":
        return None
    asked = bool(config.net) or config.source == "omega"
    needed = "Use --source analytic, or give a network of your own: --net FILE." if asked else ""
    learned = DECODER.find(config.net, needed=needed, device=device, report=out.report)
    if learned is None:
        return None
    channels, size = uv["features"].shape[:2]
    made_with = record.weights_of(avatar.uv).values()
    why = misfit(learned, model, channels, size, len(uv["identity"]), made_with)
    if not why:
        return learned
    text = f"The avatar decoder {learned.key} does not fit {avatar.uv / layout.FEATURES}: {why}."
    again = layout.command_for(avatar.uv)
    hint = f"Make the map with its own encoder (`{again} --encoder FILE`), or use --source analytic."
    if asked:
        raise OmegaError(text, hint)
    out.warn(f"{text} No network is used. {hint}")
    return None


def picture_files(avatar: Avatar) -> list[Path]:
    """The files of photo and views that the Gaussians are fitted to: of the views that the map was made of.
    None where one is missing."""
    names = layout.SOURCE_IMAGE, layout.SOURCE_PARSING, layout.CAMERAS, layout.FLAME
    photo = [avatar.source / name for name in names]
    made_of = record.inputs_of(avatar.uv)
    views = [avatar.views / layout.CAMERAS]
    for azimuth in layout.AZIMUTHS:
        files = [avatar.views / layout.view_rgb(azimuth), avatar.views / layout.view_mask(azimuth)]
        if not made_of or files[0].relative_to(avatar.root).as_posix() in made_of:
            views += files
    if len(views) == 1 or not all(path.is_file() for path in photo + views):
        return []
    crop = avatar.source / layout.SOURCE_CROP  # a source/ made by hand may lack it
    return [*photo, *views, *([crop] if crop.is_file() else [])]


def load_pictures(
    avatar: Avatar, files: list[Path], model: HeadModel, shaped: Tensor, device: str
) -> list[Picture]:
    """The photo, then the views among `files`; shaped [V, 3] m, canonical."""
    still = codecs.load_params(avatar.mesh / layout.FLAME).to(device).frame(0)
    tracked = codecs.load_params(avatar.source / layout.FLAME).to(device).frame(0)
    moved = {name: getattr(tracked, name) for name in ("global_orient", "neck_pose", "transl", "scale")}
    in_photo = model.animate(shaped, still.replace(**moved)).vertices[0]
    in_views = model.animate(shaped, still).vertices[0]

    rgba = codecs.load_image(avatar.source / layout.SOURCE_IMAGE, 4).to(device)
    labels = codecs.load_labels(avatar.source / layout.SOURCE_PARSING).to(device)
    height, width = rgba.shape[1:]
    camera = codecs.load_cameras(avatar.source / layout.CAMERAS)[0].resized(width, height).to(device)
    crop = avatar.source / layout.SOURCE_CROP
    area = photo_area(codecs.load_json(crop) if crop.is_file() else None, width, height).to(device)
    mesh = rasterize(in_photo, model.faces, camera).mask.float()
    pictures = [photo_picture(rgba, area, labels, mesh, camera, in_photo)]

    cameras = {camera.id: camera for camera in codecs.load_cameras(avatar.views / layout.CAMERAS)}
    for azimuth in layout.AZIMUTHS:
        path = avatar.views / layout.view_rgb(azimuth)
        if path in files:
            if azimuth not in cameras:
                again = layout.command_for(path)
                raise OmegaError(
                    f"{avatar.views / layout.CAMERAS} has no camera {azimuth}.", f"Run `{again}`."
                )
            rgb = codecs.load_image(path, 3).to(device)
            mask = codecs.load_image(avatar.views / layout.view_mask(azimuth), 1).to(device)
            if mask.shape[1:] != rgb.shape[1:]:
                raise OmegaError(f"{path} and its mask differ in size.", "Give both at one size.")
            sized = cameras[azimuth].resized(rgb.shape[2], rgb.shape[1]).to(device)
            pictures.append(view_picture(rgb, mask, sized, in_views))
    return pictures


def load_uv_map(path: Path, device: str) -> dict[str, Tensor]:
    """features [C, R, R], weight [1, R, R] and identity [D] (empty where the file has none).

    Raises OmegaError where they do not fit each other.
    """
    tensors = codecs.load_tensors(path, "features", "weight")
    features, weight = tensors["features"].float(), tensors["weight"].float()
    square = features.ndim == 3 and features.shape[0] >= 3 and features.shape[1] == features.shape[2]
    if not square or tuple(weight.shape) != (1, *features.shape[1:]):
        raise OmegaError(
            f"{path} holds features {list(features.shape)} and weight {list(weight.shape)};"
            " [C >= 3, R, R] and [1, R, R] are needed.",
            f"Run `{layout.command_for(path)}` again.",
        )
    identity = tensors.get("identity", torch.zeros(0)).float().flatten()
    return {
        "features": features.to(device), "weight": weight.to(device), "identity": identity.to(device)
    }  # fmt: skip


def preview(gaussians: Gaussians, vertices: Tensor) -> Tensor:  # -> [3, H, W]
    """Front and side of the canonical head on white, RGB alone."""
    gaussians = gaussians.first_colours(3)
    low, high = vertices.amin(0), vertices.amax(0)
    centre, half = (low + high) / 2, 0.55 * float((high - low).max())
    white = torch.ones(3, device=vertices.device)
    shots = []
    for azimuth in PREVIEW_VIEWS:
        camera = perspective(azimuth, PREVIEW_SIZE, half, centre=centre.cpu()).to(vertices.device)
        shots.append(render(gaussians, camera, background=white).image)
    return torch.cat(shots, dim=2)
