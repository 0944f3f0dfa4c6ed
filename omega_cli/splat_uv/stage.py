"""splat-uv, files in, files out."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from omega_cli.avatar import codecs, layout, record
from omega_cli.avatar.layout import Avatar
from omega_cli.console import Report
from omega_cli.errors import OmegaError
from omega_cli.geometry.camera import Camera
from omega_cli.head.assets import load_head
from omega_cli.head.model import HeadModel
from omega_cli.head.params import HeadParams
from omega_cli.head.parts import PARTS, face_parts
from omega_cli.splat_uv.agreement import parsing_agrees, source_pixels
from omega_cli.splat_uv.canonical import UVMap, canonical_map
from omega_cli.splat_uv.config import VIEW_WEIGHTS, SplatUVConfig
from omega_cli.splat_uv.features import filter_bank, identity_vector
from omega_cli.splat_uv.picture import coverage_picture, pca_picture
from omega_cli.splat_uv.pixels import PixelSamples, pixel_samples


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
        cameras = views_cameras(avatar, azimuths)
        with report.progress("splat-uv", 2 * len(azimuths)) as task:
            features, samples = [], []
            mesh = SplatMesh.of(model, params, offsets)
            photo = Photo.load(avatar, model, params, offsets, device) if parsed else None
            for azimuth in azimuths:
                rgb = codecs.load_image(avatar.views / layout.view_rgb(azimuth), 3).to(device)
                mask = codecs.load_image(avatar.views / layout.view_mask(azimuth), 1).to(device)
                check_size(avatar.views / layout.view_mask(azimuth), rgb, mask)
                features.append(filter_bank(rgb, mask))
                sample = mesh.seen_by(cameras[azimuth].to(device), mask[0])
                samples.append(sample if photo is None else photo.consistent(sample, mesh))
                if azimuth == azimuths[0]:
                    identity = identity_vector(features[0], mask)
                task.advance()
            uv_map = canonical_map(
                features,
                samples,
                [VIEW_WEIGHTS[azimuth] for azimuth in azimuths],
                uv_size=config.uv_size,
                levels=config.levels,
                splat=config.splat,
                hierarchical=config.hierarchical,
                visibility_fusion=config.visibility_fusion,
                confidence_power=config.confidence_power,
            )
            task.advance(len(azimuths))
        save(out.path, uv_map, identity, azimuths if config.keep_views else ())
        out.metrics["pixels"] = {a: len(s.pixel) for a, s in zip(azimuths, samples, strict=True)}
        out.metrics["texels_seen"] = round(float((uv_map.weight > 0.01).float().mean()), 4)
        out.summary = f"{len(azimuths)} views × {config.levels if config.hierarchical else 1} levels"
    return avatar.uv


class SplatMesh:
    """The deformed head in the views' pose, without lashes: they are painted on skin and eye in a photo."""

    def __init__(self, model: HeadModel, vertices: Tensor) -> None:
        part = face_parts(model)
        kept = part != PARTS.index("lashes")
        self.vertices, self.uvs = vertices, model.uvs
        self.faces, self.uv_faces, self.part = model.faces[kept], model.uv_faces[kept], part[kept]

    @staticmethod
    def of(model: HeadModel, params: HeadParams, offsets: Tensor) -> SplatMesh:
        return SplatMesh(model, model(params.frame(0), offsets).vertices[0])

    def seen_by(self, camera: Camera, alpha: Tensor) -> PixelSamples:
        camera = camera.resized(alpha.shape[1], alpha.shape[0])
        return pixel_samples(camera, self.vertices, self.faces, self.uvs, self.uv_faces, alpha, self.part)


class Photo:
    """The source photo's parsing and the head as it stands before the source camera."""

    def __init__(self, labels: Tensor, vertices: Tensor, camera: Camera) -> None:
        self.labels, self.vertices = labels, vertices
        self.camera = camera.resized(labels.shape[1], labels.shape[0])

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

    def consistent(self, samples: PixelSamples, mesh: SplatMesh) -> PixelSamples:
        """Without the pixels where the photo's parsing contradicts the mesh."""
        points = samples.points(self.vertices, mesh.faces)
        pixel = source_pixels(points, self.vertices, mesh.faces, self.camera)
        meaning = {name: number for number, name in enumerate(layout.PARSING_LABELS)}
        agrees = parsing_agrees(samples, mesh.part, pixel, self.labels, meaning)
        return samples.keep(samples.reliability * agrees)


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
