"""splat-uv, files in, files out."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from omega_cli.avatar import codecs, layout, record
from omega_cli.avatar.layout import Avatar
from omega_cli.console import Report
from omega_cli.errors import OmegaError
from omega_cli.geometry.camera import Camera
from omega_cli.geometry.raster import blend, rasterize
from omega_cli.head.assets import load_head
from omega_cli.head.model import HeadModel
from omega_cli.head.params import HeadParams
from omega_cli.head.parts import PARTS, face_parts
from omega_cli.kernels import _backend
from omega_cli.replay import Replayed
from omega_cli.splat_uv.agreement import (
    NEIGHBOURS,
    agreement_table,
    colour_range,
    colours_agree,
    parsing_agrees,
    source_pixels,
)
from omega_cli.splat_uv.canonical import UVMap, canonical_map
from omega_cli.splat_uv.checkpoint import ENCODER, read_backbone
from omega_cli.splat_uv.config import VIEW_WEIGHTS, SplatUVConfig
from omega_cli.splat_uv.dino import DinoEncoder
from omega_cli.splat_uv.encoder import Encoder
from omega_cli.splat_uv.features import filter_banks, identity_vector
from omega_cli.splat_uv.picture import coverage_picture, pca_picture
from omega_cli.splat_uv.pixels import PixelSamples, spread_max, view_samples


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
    model = _head(device)
    own = "" if config.encoder == "auto" else config.encoder
    learned = None if own == "none" else ENCODER.find(own, device=device, report=report)
    digests = learned.digests if learned else {}
    if learned is not None and isinstance(learned.net, DinoEncoder):
        backbone, path = read_backbone(config.encoder_backbone, device)
        learned.net.attach(backbone)
        digests |= {str(path): f"sha256:{backbone.sha256}"}
    with record.writing_stage(
        avatar,
        stage="splat-uv",
        folder=avatar.uv,
        config=config,
        seed=seed,
        inputs=[*inputs, *(source if parsed else [])],
        weights={"open_head": model.sha256} | digests,
        device=device,
        report=report,
        force=force,
    ) as out:
        params = codecs.load_params(avatar.mesh / layout.FLAME).to(device)
        offsets = codecs.load_offsets(avatar.mesh / layout.OFFSETS, len(model.v_template)).to(device)
        with report.progress("splat-uv", 2) as task:
            views = Views.load(avatar, azimuths, device)
            photo = Photo.load(avatar, model, params, offsets, device) if parsed else None
            task.advance()
            # the torch references wait for a GPU, which a recording cannot
            native = _backend.choose("auto", offsets) == "native"
            encoder = learned.net if learned else None
            if encoder is not None:
                check_multiple(avatar, views, encoder.multiple)
            # nor is a transformer of somebody else's made for a recording
            recordable = native and not isinstance(encoder, DinoEncoder)
            splat = splat_replayed if recordable else splat_posed
            inner = SplatHead.of(model), params, offsets, views, photo, config
            uv_map, identity, pixels = splat(*inner, encoder)
            task.advance()
        save(out.path, uv_map, identity, azimuths if config.keep_views else ())
        out.metrics["pixels"] = dict(zip(azimuths, pixels.tolist(), strict=True))
        out.metrics["channels"] = len(uv_map.features)
        out.metrics["texels_seen"] = round(float((uv_map.weight > 0.01).float().mean()), 4)
        out.summary = f"{len(azimuths)} views × {config.levels if config.hierarchical else 1} levels"
    return avatar.uv


@functools.lru_cache(maxsize=1)
def _head(device: str) -> HeadModel:
    """The committed head; kept for the next avatar."""
    return load_head(device=device)


@dataclass(frozen=True)
class Views:
    """K views: cameras; rgb [3, H, W] and mask [1, H, W] each; their weights gamma_k [K]."""

    cameras: list[Camera]
    rgb: list[Tensor]
    mask: list[Tensor]
    weights: Tensor

    @property
    def together(self) -> bool:
        """Whether they are worked on all at once: on a GPU, if they are of one size."""
        return self.rgb[0].is_cuda and len({image.shape for image in self.rgb}) == 1

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
            torch.tensor([VIEW_WEIGHTS[azimuth] for azimuth in azimuths]).to(device),
        )


def splat_posed(
    head: SplatHead,
    params: HeadParams,
    offsets: Tensor,  # [V, 3] m
    views: Views,
    photo: Photo | None,
    config: SplatUVConfig,
    encoder: Encoder | DinoEncoder | None = None,
) -> tuple[UVMap, Tensor, Tensor]:
    """The whole computation: pose the deformed head, then `splat_views`."""
    return splat_views(views, SplatMesh.posed(head, params, offsets), photo, config, encoder)


# An encoder is part of a call's kind, and its weights stay where they are (`network_file` keeps them)
splat_replayed = Replayed(splat_posed)


def splat_views(
    views: Views,
    mesh: SplatMesh,
    photo: Photo | None,
    config: SplatUVConfig,
    encoder: Encoder | DinoEncoder | None = None,
) -> tuple[UVMap, Tensor, Tensor]:
    """From the loaded views to the canonical map, the identity vector of the first view and the number of
    pixels [K] that each view gave. The map has the pyramids if `config` keeps the views. An encoder's
    features follow those of the filter bank."""
    features = filter_banks(views.rgb, views.mask, together=views.together)
    if encoder is not None:
        features = with_learned(features, views, encoder)
    samples = mesh.seen_by(views.cameras, [mask[0] for mask in views.mask], together=views.together)
    if photo is not None:
        samples = photo.consistent(samples, mesh, views)
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
    if not config.keep_views:
        uv_map = replace(uv_map, pyramids=[])
    first = features[0][0] if views.together else features[0]
    pixels = torch.cat([(sample.reliability > 0).sum(-1).view(-1) for sample in samples])
    return uv_map, identity_vector(first, views.mask[0]), pixels


def with_learned(fixed: Sequence[Tensor], views: Views, encoder: Encoder | DinoEncoder) -> list[Tensor]:
    """Each view's filter bank with the encoder's features behind it."""
    rgb, mask = (
        [torch.stack(t)] if views.together else [i[None] for i in t] for t in (views.rgb, views.mask)
    )
    learned = [encoder(image, its_mask).float() for image, its_mask in zip(rgb, mask, strict=True)]
    return [
        torch.cat([a, b if views.together else b[0]], dim=-3) for a, b in zip(fixed, learned, strict=True)
    ]


@dataclass(frozen=True)
class SplatHead:
    """The head without lashes, which are painted on skin and eye in a photo, as far as posing and splatting
    read it; part [F] of each face (head.parts)."""

    model: HeadModel
    part: Tensor

    @staticmethod
    @functools.lru_cache(maxsize=1)
    def of(model: HeadModel) -> SplatHead:
        """Once for each head."""
        part = face_parts(model)
        kept = torch.nonzero(part != PARTS.index("lashes")).squeeze(1)
        surface = {"faces": model.faces[kept], "uv_faces": model.uv_faces[kept]}
        unread: dict[str, Any] = {"regions": {}, "landmarks": {}, "mirror_index": None, "albedo": None}
        return SplatHead(replace(model, **surface, **unread), part[kept])


@dataclass(frozen=True)
class SplatMesh:
    """The deformed head in the views' pose: vertices [V, 3] m, faces [F, 3], uvs, uv_faces and parts [F]."""

    vertices: Tensor
    faces: Tensor
    uvs: Tensor
    uv_faces: Tensor
    part: Tensor

    @staticmethod
    def posed(head: SplatHead, params: HeadParams, offsets: Tensor) -> SplatMesh:
        model = head.model
        vertices = model(params.frame(0), offsets).vertices[0]
        return SplatMesh(vertices, model.faces, model.uvs, model.uv_faces, head.part)

    def seen_by(
        self, cameras: Sequence[Camera], alphas: Sequence[Tensor], *, together: bool = False
    ) -> list[PixelSamples]:
        """What each view's pixels see of it; alphas [H, W], the views' masks."""
        mesh = (self.vertices, self.faces, self.uvs, self.uv_faces, alphas, self.part)
        return view_samples(cameras, *mesh, together=together)


@dataclass(frozen=True)
class Photo:
    """The source photo: labels [H, W] of its parsing; the head's vertices [V, 3] m as it stands before the
    camera, which is of the labels' size; which labels may be seen on which part (`agreement_table`)."""

    labels: Tensor
    vertices: Tensor
    camera: Camera
    agreement: Tensor

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
        return Photo(
            labels.clamp_max(len(layout.PARSING_LABELS) - 1),
            model(placed, offsets).vertices[0],
            camera.resized(labels.shape[1], labels.shape[0]),
            agreement_table(layout.PARSING_LABELS).to(device),
        )

    def consistent(
        self, samples: Sequence[PixelSamples], mesh: SplatMesh, views: Views
    ) -> list[PixelSamples]:
        """Without the pixels where the photo's parsing contradicts the mesh, or the front view their colour.

        Hair's colour is not asked about: its strands are elsewhere on a mesh than in any view.
        """
        face_index = _joined([sample.face_index.flatten() for sample in samples]).clamp_min(0)
        barycentric = _joined([sample.barycentric.flatten(0, -2) for sample in samples])
        points = blend(self.vertices, mesh.faces, face_index, barycentric)
        depth = rasterize(self.vertices, mesh.faces, self.camera).depth
        pixel = source_pixels(points, depth, self.camera)
        agrees = parsing_agrees(mesh.part[face_index], pixel, self.labels, self.agreement)
        hair = (self.labels == layout.PARSING_LABELS.index("hair")).to(points)
        asked = (pixel >= 0) & (spread_max(hair, NEIGHBOURS).flatten()[pixel.clamp_min(0)] == 0)
        front = rasterize(mesh.vertices, mesh.faces, views.cameras[0]).depth
        points = blend(mesh.vertices, mesh.faces, face_index, barycentric)
        front_pixel = torch.where(asked, source_pixels(points, front, views.cameras[0]), -1)
        rgb = [torch.stack(views.rgb)] if views.together else views.rgb
        colours = [sample.gather(image).flatten(0, -2) for sample, image in zip(samples, rgb, strict=True)]
        seen = colour_range(views.rgb[0], views.mask[0])
        agrees = agrees * colours_agree(_joined(colours), front_pixel, *seen)
        parts = agrees.split([sample.reliability.numel() for sample in samples])
        return [
            sample.keep(sample.reliability * part.view_as(sample.reliability))
            for sample, part in zip(samples, parts, strict=True)
        ]


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


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


def check_multiple(avatar: Avatar, views: Views, multiple: int) -> None:
    """Our encoder halves a view three times, DINOv3 cuts it into patches."""
    for image in views.rgb:
        if image.shape[1] % multiple or image.shape[2] % multiple:
            raise OmegaError(
                f"The views in {avatar.views} are {image.shape[2]}×{image.shape[1]} px; the avatar encoder"
                f" needs sides that are multiples of {multiple}.",
                "Make them again with another --size, or use --encoder none.",
            )


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
    views = [view for pyramid in uv_map.pyramids for view in pyramid.views()]
    for azimuth, pyramid in zip(keep_views, views, strict=True):
        levels = {}
        for level, parts in enumerate(zip(pyramid.sums, pyramid.density, pyramid.confidence, strict=True)):
            for name, values in zip(("sum", "density", "confidence"), parts, strict=True):
                levels[f"{name}_{level}"] = values
        codecs.save_tensors(folder / layout.view_features(azimuth), **levels)
