"""decode, files in, files out."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from omega_cli.avatar import codecs, layout, record
from omega_cli.avatar.layout import Avatar
from omega_cli.console import Report
from omega_cli.decode.analytic import decode_surface
from omega_cli.decode.config import DecodeConfig
from omega_cli.errors import OmegaError
from omega_cli.gaussians.binding import BoundGaussians
from omega_cli.gaussians.model import Gaussians
from omega_cli.gaussians.ply import to_ply
from omega_cli.gaussians.splat import render
from omega_cli.geometry.camera import perspective
from omega_cli.head.assets import load_head

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
    """uv/ + mesh/ -> gaussians/."""
    inputs = [
        avatar.uv / layout.FEATURES,
        avatar.mesh / layout.FLAME,
        avatar.mesh / layout.OFFSETS,
    ]
    for path in inputs:
        record.needs(path, layout.command_for(path))
    model = load_head(device=device)
    with (
        torch.no_grad(),
        record.writing_stage(
            avatar,
            stage="decode",
            folder=avatar.gaussians,
            config=config,
            seed=seed,
            inputs=inputs,
            weights={"open_head": model.sha256},
            device=device,
            report=report,
            force=force,
        ) as out,
        report.progress("decode") as task,
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
        out.summary = f"{len(decoded.uv)} + {len(decoded.vertex)} Gaussians"
        task.advance()
    return avatar.gaussians


def load_uv_map(path: Path, device: str) -> dict[str, Tensor]:
    """features [C, R, R] and weight [1, R, R]. Raises OmegaError where they do not fit each other."""
    tensors = codecs.load_tensors(path, "features", "weight")
    features, weight = tensors["features"].float(), tensors["weight"].float()
    square = features.ndim == 3 and features.shape[0] >= 3 and features.shape[1] == features.shape[2]
    if not square or tuple(weight.shape) != (1, *features.shape[1:]):
        raise OmegaError(
            f"{path} holds features {list(features.shape)} and weight {list(weight.shape)};"
            " [C >= 3, R, R] and [1, R, R] are needed.",
            f"Run `{layout.command_for(path)}` again.",
        )
    return {"features": features.to(device), "weight": weight.to(device)}


def preview(gaussians: Gaussians, vertices: Tensor) -> Tensor:  # -> [3, H, W]
    """Front and side of the canonical head on white."""
    low, high = vertices.amin(0), vertices.amax(0)
    centre, half = (low + high) / 2, 0.55 * float((high - low).max())
    white = torch.ones(3, device=vertices.device)
    shots = []
    for azimuth in PREVIEW_VIEWS:
        camera = perspective(azimuth, PREVIEW_SIZE, half, centre=centre.cpu()).to(vertices.device)
        shots.append(render(gaussians, camera, background=white).image[:3])
    return torch.cat(shots, dim=2)
