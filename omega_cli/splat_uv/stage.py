"""splat-uv, files in, files out."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from omega_cli.avatar import codecs, layout, record
from omega_cli.avatar.layout import Avatar
from omega_cli.console import Report
from omega_cli.errors import OmegaError
from omega_cli.geometry.camera import Camera
from omega_cli.geometry.raster import rasterize
from omega_cli.head.assets import load_head
from omega_cli.head.model import HeadModel
from omega_cli.head.params import HeadParams
from omega_cli.head.parts import PARTS, face_parts
from omega_cli.splat_uv.agreement import agreement_table, parsing_agrees, source_pixels
from omega_cli.splat_uv.canonical import UVMap, canonical_map
from omega_cli.splat_uv.config import VIEW_WEIGHTS, SplatUVConfig
from omega_cli.splat_uv.features import filter_banks, identity_vector
from omega_cli.splat_uv.picture import coverage_picture, pca_picture
from omega_cli.splat_uv.pixels import PixelSamples, blend, view_samples


def run(
    avatar: Avatar,
    config: SplatUVConfig,
    *,
    device: str = "cpu",
    seed: int = 0,
    report: Report,
    force: bool = False,
) -> Path:
    """views/ + mesh/ (+ source/, where it has a parsing) -> uv/."""
    azimuths = layout.AZIMUTHS[:1] if config.single_view else layout.AZIMUTHS
    inputs = [avatar.views / layout.CAMERAS, avatar.mesh / layout.FLAME, avatar.mesh / layout.OFFSETS]
    for azimuth in azimuths:
        inputs += [avatar.views / layout.view_rgb(azimuth), avatar.views / layout.view_mask(azimuth)]
    for path in inputs:
        record.needs(path, layout.command_for(path))
    source = [avatar.source / n for n in (layout.SOURCE_PARSING, layout.FLAME, layout.CAMERAS)]
    parsed = all(path.exists() for path in source)
    model = load_head(device=device)
    with record.writing_stage(
        avatar,
        stage="splat-uv",
        folder=avatar.uv,
        config=config,
        seed=seed,
        inputs=[*inputs, *(source if parsed else [])],
        weights={"open_head": model.sha256},
        device=device,
        report=report,
        force=force,
    ) as out:
        params = codecs.load_params(avatar.mesh / layout.FLAME).to(device)
        offsets = codecs.load_offsets(avatar.mesh / layout.OFFSETS, len(model.v_template)).to(device)
        with report.progress("splat-uv", 2) as task:
            views = Views.load(avatar, azimuths, device)
            mesh = SplatMesh.of(model, params, offsets)
            photo = Photo.load(avatar, model, params, offsets, device) if parsed else None
            task.advance()
            uv_map, identity, samples = splat_views(views, mesh, photo, config)
            task.advance()
        save(out.path, uv_map, identity, azimuths if config.keep_views else ())
        out.metrics["pixels"] = {
            azimuth: int((s.reliability > 0).sum()) for azimuth, s in zip(azimuths, samples, strict=True)
        }
        out.metrics["texels_seen"] = round(float((uv_map.weight > 0.01).float().mean()), 4)
        out.summary = f"{len(azimuths)} views × {config.levels if config.hierarchical else 1} levels"
    return avatar.uv


@dataclass(frozen=True)
class Views:
    """K views: cameras; rgb [3, H, W] and mask [1, H, W] each; their weights gamma_k."""

    cameras: list[Camera]
    rgb: list[Tensor]
    mask: list[Tensor]
    weights: list[float]

    @staticmethod
    def load(avatar: Avatar, azimuths: tuple[str, ...], device: str) -> Views:
        cameras, rgb, masks = views_cameras(avatar, azimuths), [], []
        for azimuth in azimuths:
            path = avatar.views / layout.view_mask(azimuth)
            rgb.append(codecs.load_image(avatar.views / layout.view_rgb(azimuth), 3))
            masks.append(codecs.load_image(path, 1))
            check_size(path, rgb[-1], masks[-1])
        sized = [cameras[a].resized(m.shape[2], m.shape[1]) for a, m in zip(azimuths, masks, strict=True)]
        return Views(
            [camera.to(device) for camera in sized],
            [image.to(device) for image in rgb],
            [mask.to(device) for mask in masks],
            [VIEW_WEIGHTS[azimuth] for azimuth in azimuths],
        )


def splat_views(
    views: Views, mesh: SplatMesh, photo: Photo | None, config: SplatUVConfig
) -> tuple[UVMap, Tensor, list[PixelSamples]]:
    """From the loaded views to the canonical map, the identity vector of the first view and the samples."""
    features = filter_banks(views.rgb, views.mask)
    samples = mesh.seen_by(views.cameras, [mask[0] for mask in views.mask])
    if photo is not None:
        samples = photo.consistent(samples, mesh)
    uv_map = canonical_map(
        features,
        samples,
        views.weights,
        uv_size=config.uv_size,
        levels=config.levels,
        splat=config.splat,
        hierarchical=config.hierarchical,
        visibility_fusion=config.visibility_fusion,
        confidence_power=config.confidence_power,
    )
    return uv_map, identity_vector(features[0], views.mask[0]), samples


class SplatMesh:
    """The deformed head in the views' pose, without lashes: they are painted on skin and eye in a photo."""

    def __init__(self, model: HeadModel, vertices: Tensor) -> None:
        self.vertices, self.uvs = vertices, model.uvs
        self.faces, self.uv_faces, self.part = _without_lashes(model)

    @staticmethod
    def of(model: HeadModel, params: HeadParams, offsets: Tensor) -> SplatMesh:
        return SplatMesh(model, model(params.frame(0), offsets).vertices[0])

    def seen_by(self, cameras: Sequence[Camera], alphas: Sequence[Tensor]) -> list[PixelSamples]:
        """What each view's pixels see of it; alphas [H, W], the views' masks."""
        return view_samples(cameras, self.vertices, self.faces, self.uvs, self.uv_faces, alphas, self.part)


@functools.lru_cache(maxsize=1)
def _without_lashes(model: HeadModel) -> tuple[Tensor, Tensor, Tensor]:
    """faces, uv_faces and the part of each [F], the lashes left out: once for each head."""
    part = face_parts(model)
    kept = torch.nonzero(part != PARTS.index("lashes")).squeeze(1)
    return model.faces[kept], model.uv_faces[kept], part[kept]


class Photo:
    """The source photo's parsing and the head as it stands before the source camera."""

    def __init__(self, labels: Tensor, vertices: Tensor, camera: Camera) -> None:
        self.labels, self.vertices = labels.clamp_max(len(layout.PARSING_LABELS) - 1), vertices
        self.camera = camera.resized(labels.shape[1], labels.shape[0])
        self.agreement = agreement_table(layout.PARSING_LABELS).to(labels.device)

    @staticmethod
    def load(avatar: Avatar, model: HeadModel, params: HeadParams, offsets: Tensor, device: str) -> Photo:
        tracked = codecs.load_params(avatar.source / layout.FLAME).to(device)
        placed = params.frame(0).replace(
            global_orient=tracked.global_orient[:1],
            neck_pose=tracked.neck_pose[:1],
            transl=tracked.transl[:1],
            scale=tracked.scale,
        )
        labels = codecs.load_labels(avatar.source / layout.SOURCE_PARSING).to(device)
        camera = codecs.load_cameras(avatar.source / layout.CAMERAS)[0].to(device)
        return Photo(labels, model(placed, offsets).vertices[0], camera)

    def consistent(self, views: Sequence[PixelSamples], mesh: SplatMesh) -> list[PixelSamples]:
        """Without the pixels where the photo's parsing contradicts the mesh."""
        face_index = torch.cat([samples.face_index for samples in views])
        barycentric = torch.cat([samples.barycentric for samples in views])
        points = blend(self.vertices, mesh.faces, face_index, barycentric)
        depth = rasterize(self.vertices, mesh.faces, self.camera).depth
        pixel = source_pixels(points, depth, self.camera)
        agrees = parsing_agrees(mesh.part[face_index], pixel, self.labels, self.agreement)
        parts = agrees.split([len(samples.pixel) for samples in views])
        return [s.keep(s.reliability * part) for s, part in zip(views, parts, strict=True)]


def views_cameras(avatar: Avatar, azimuths: tuple[str, ...]) -> dict[str, Camera]:
    """The cameras of views/ by id. Raises OmegaError when one is missing."""
    path = avatar.views / layout.CAMERAS
    cameras = {camera.id: camera for camera in codecs.load_cameras(path)}
    missing = [azimuth for azimuth in azimuths if azimuth not in cameras]
    if missing:
        raise OmegaError(
            f"{path} has no camera for view {', '.join(missing)}.", "Run `omega mv-diffuse` again."
        )
    return cameras


def check_size(path: Path, rgb: Tensor, mask: Tensor) -> None:
    if rgb.shape[1:] != mask.shape[1:]:
        sizes = " and ".join(f"{i.shape[2]}×{i.shape[1]}" for i in (rgb, mask))
        raise OmegaError(f"{path} and its picture differ in size ({sizes}).", "Give both at one size.")


def save(folder: Path, uv_map: UVMap, identity: Tensor, keep_views: tuple[str, ...]) -> None:
    codecs.save_tensors(
        folder / layout.FEATURES, features=uv_map.features, weight=uv_map.weight, identity=identity
    )
    codecs.save_image(folder / layout.COVERAGE, coverage_picture(uv_map.weight))
    codecs.save_image(folder / layout.FEATURES_PCA, pca_picture(uv_map.features, uv_map.weight))
    codecs.save_image(folder / layout.UV_RGB, uv_map.features[:3])
    for azimuth, pyramid in zip(keep_views, uv_map.pyramids, strict=False):
        levels = {}
        for level, parts in enumerate(zip(pyramid.sums, pyramid.density, pyramid.confidence, strict=True)):
            for name, values in zip(("sum", "density", "confidence"), parts, strict=True):
                levels[f"{name}_{level}"] = values
        codecs.save_tensors(folder / layout.view_features(azimuth), **levels)
