"""deform-flame, files in, files out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from omega_cli.avatar import codecs, layout, record
from omega_cli.avatar.layout import Avatar
from omega_cli.console import Report
from omega_cli.deform_flame.config import DeformFlameConfig
from omega_cli.deform_flame.objective import UNIT
from omega_cli.deform_flame.overlay import blend
from omega_cli.deform_flame.problem import deform, views_frame
from omega_cli.deform_flame.semantics import NEEDED_REGIONS
from omega_cli.deform_flame.solve import Fit
from omega_cli.errors import OmegaError
from omega_cli.geometry.camera import Camera
from omega_cli.geometry.reproject import normal_gap
from omega_cli.head.assets import load_head
from omega_cli.head.model import HeadModel
from omega_cli.head.params import HeadParams

View = tuple[Camera, Tensor, Tensor]  # camera, normal [3, H, W], mask [1, H, W]


def run(
    avatar: Avatar,
    config: DeformFlameConfig,
    *,
    device: str = "cpu",
    seed: int = 0,
    report: Report,
    force: bool = False,
) -> Path:
    """source/ + views/ -> mesh/. The fit and its pictures run on `device`; files are written from the CPU."""
    source = [avatar.source / name for name in (layout.FLAME, layout.CAMERAS, layout.SOURCE_LANDMARKS)]
    inputs = [source[0]]
    if config.mesh:
        inputs.append(Path(config.mesh))
    else:
        inputs += [*source[1:], avatar.views / layout.CAMERAS]
    for azimuth in layout.AZIMUTHS:
        inputs += [avatar.views / layout.view_normal(azimuth), avatar.views / layout.view_mask(azimuth)]
    own = Path(config.mesh) if config.mesh else None
    for path in inputs:
        if path != own:
            record.needs(path, layout.command_for(path))
    if own is not None and not own.is_file():
        raise OmegaError(f"{own} is not there.", "Give --mesh the OBJ of a head in the model's topology.")
    model = load_head()
    missing = [name for name in NEEDED_REGIONS if name not in model.regions]
    if missing:
        raise OmegaError(f"The head model {model.name} has no region {', '.join(missing)}.")
    with record.writing_stage(
        avatar,
        stage="deform-flame",
        folder=avatar.mesh,
        config=config,
        seed=seed,
        inputs=inputs,
        weights={"open_head": model.sha256},
        device=device,
        report=report,
        force=force,
    ) as out:
        photo = codecs.load_params(avatar.source / layout.FLAME).frame(0)
        views = load_views(avatar)
        if own is not None:
            fit = Fit(own_offsets(model, photo, own), [], 0)
            out.summary = f"offsets of {own.name}"
        else:
            fit = _fit(avatar, model.to(device), photo, views, config, report)
            out.summary = f"{len(fit.history)} steps"
        _write(out.path, model, photo, fit, views, device)
        out.metrics.update(metrics(model, fit))
        out.metrics["views_normal_gap_deg"] = round(_normal_gap(model, photo, fit, views), 3)
        if fit.unfolded:
            out.warn(f"{fit.unfolded} triangles were about to fold and were relaxed; look at overlay/.")
    return avatar.mesh


def _fit(
    avatar: Avatar,
    model: HeadModel,
    photo: HeadParams,
    views: list[View],
    config: DeformFlameConfig,
    report: Report,
) -> Fit:
    """The fit on the model's device; its offsets on the CPU."""
    marks = codecs.load_arrays(avatar.source / layout.SOURCE_LANDMARKS, "points", "scores")
    with report.progress("deform-flame", config.iterations) as task:
        fit = deform(
            model,
            photo,
            views,
            config,
            points=torch.from_numpy(marks["points"]).float(),
            scores=torch.from_numpy(marks["scores"]).float(),
            photo=codecs.load_cameras(avatar.source / layout.CAMERAS)[0],
            on_step=task.advance,
        )
    return replace(fit, offsets=fit.offsets.cpu())


def load_views(avatar: Avatar) -> list[View]:
    """The six views; every normal map and mask must be square and of one size."""
    path = avatar.views / layout.CAMERAS
    cameras = {camera.id: camera for camera in codecs.load_cameras(path)}
    lost = [azimuth for azimuth in layout.AZIMUTHS if azimuth not in cameras]
    if lost:
        raise OmegaError(f"{path} has no camera {', '.join(lost)}.", f"Run `{layout.command_for(path)}`.")
    views = []
    for azimuth in layout.AZIMUTHS:
        place = avatar.views / layout.view_normal(azimuth)
        normal = codecs.load_image(place, 3) * 2 - 1
        mask = codecs.load_image(avatar.views / layout.view_mask(azimuth), 1)
        if normal.shape[1:] != mask.shape[1:] or mask.shape[1] != mask.shape[2]:
            sizes = " and ".join("x".join(map(str, image.shape[:0:-1])) for image in (normal, mask))
            raise OmegaError(
                f"{place} and its mask are {sizes}: both must be square and of one size.",
                f"Run `{layout.command_for(place)}`, or mend them (docs/formats.md).",
            )
        views.append((cameras[azimuth], torch.nn.functional.normalize(normal, dim=0), mask))
    return views


def own_offsets(model: HeadModel, photo: HeadParams, path: Path) -> Tensor:
    """Offsets [V, 3] m that turn the fitted identity into the canonical mesh of an OBJ file.

    Raises OmegaError when the file is not the head's topology, or not in metres in the head's frame.
    """
    vertices = codecs.load_obj_vertices(path)
    canonical = model.identity(photo.betas)
    if vertices.shape != canonical.shape:
        raise OmegaError(
            f"{path} has {len(vertices)} vertices, the head {model.name} has {len(canonical)}.",
            "Start from mesh/canonical.obj and keep the number and the order of its vertices.",
        )
    offsets = vertices - canonical
    size = float((canonical.amax(0) - canonical.amin(0)).norm())
    if float(offsets.norm(dim=1).max()) > size:
        raise OmegaError(
            f"{path} lies {float(offsets.norm(dim=1).max()):.2f} m away from the fitted head.",
            "It must be in metres, y up, face towards +z, origin between the ears, like mesh/canonical.obj.",
        )
    return offsets


def metrics(model: HeadModel, fit: Fit) -> dict[str, float]:
    """What stage.json records: how far regions moved (RMS and most, mm) and the last loss terms."""
    found = {"steps": float(len(fit.history)), "unfolded_triangles": float(fit.unfolded)}
    length = 1e3 * fit.offsets.norm(dim=1)
    for name in ("scalp", "neck", "ears", "face"):
        moved = length[model.regions[name]]
        found[f"{name}_rms_mm"] = round(float(moved.square().mean().sqrt()), 4)
        found[f"{name}_max_mm"] = round(float(moved.max()), 3)
    if fit.history:
        found["outline_rms_mm"] = round(1e3 * UNIT * fit.history[-1]["sil"] ** 0.5, 3)
        found |= {f"loss_{name}": fit.history[-1][name] for name in ("total", "nml", "sil", "lap")}
    return found


def _normal_gap(model: HeadModel, photo: HeadParams, fit: Fit, views: list[View]) -> float:
    """How far neighbouring views' normals disagree about the deformed head, degrees."""
    posed = model.forward(views_frame(photo), fit.offsets).vertices[0]
    return normal_gap(posed, model.faces, [(camera, normal) for camera, normal, _ in views])


def _write(
    folder: Path, model: HeadModel, photo: HeadParams, fit: Fit, views: list[View], device: str
) -> None:
    still = views_frame(photo)
    posed = model.forward(still, fit.offsets).vertices[0]
    canonical = model.identity(photo.betas, fit.offsets)
    codecs.save_offsets(folder / layout.OFFSETS, fit.offsets)
    codecs.save_params(folder / layout.FLAME, still, head=model)
    codecs.save_obj(folder / layout.CANONICAL_OBJ, canonical, model.faces, model.uvs, model.uv_faces)
    codecs.save_obj(folder / layout.POSED_OBJ, posed, model.faces, model.uvs, model.uv_faces)
    lines = [json.dumps(record) for record in fit.history]
    (folder / layout.FIT_LOG).write_text("\n".join(lines) + ("\n" if lines else ""))
    posed, faces = posed.to(device), model.faces.to(device)
    for camera, normal, mask in views:
        picture = blend(posed, faces, camera.to(device), normal.to(device), mask.to(device))
        codecs.save_image(folder / layout.overlay(camera.id), picture)
