"""Tiny avatar networks in files, as training writes them, and the stages run with them on the toy avatar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from omega_cli.avatar import codecs, layout
from omega_cli.avatar.layout import Avatar
from omega_cli.console import NullReport, Report
from omega_cli.decode.config import DecodeConfig
from omega_cli.model import OmegaConfig, OmegaModel
from omega_cli.render.config import RenderConfig
from omega_cli.render.refiner import RefinerConfig
from omega_cli.splat_uv.config import SplatUVConfig
from omega_cli.splat_uv.encoder import EncoderConfig

SIZE = 64  # texels
CONFIG = OmegaConfig(EncoderConfig((8, 8, 16), 4), (16, 24, 32), RefinerConfig((16, 16), 1))
NAMES = {
    "avatar_encoder": layout.AVATAR_ENCODER,
    "avatar_decoder": layout.AVATAR_DECODER,
    "avatar_refiner": layout.AVATAR_REFINER,
}


def model(*, awake: bool, seed: int = 0, config: OmegaConfig = CONFIG) -> OmegaModel:
    """Untrained, or with last layers that say something."""
    import toy

    torch.manual_seed(seed)
    net = OmegaModel(toy.head(), SplatUVConfig(uv_size=SIZE), config)
    if awake:
        for layer in (net.decoder.uv.last, net.decoder.vertex.last, net.refiner.last):
            torch.nn.init.normal_(layer.weight, std=0.1)
    return net


def write(folder: Path, net: OmegaModel) -> Path:
    """The three files of a training run."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in net.files(trained_on=["studio/*"], step=1).items():
        (folder / NAMES[name]).write_bytes(data)
    return folder


def give_mesh(avatar: Avatar) -> None:
    """The mesh that deform-flame would find of the toy: the true head, no offsets."""
    import toy

    still = toy.toy_params().replace(global_orient=torch.zeros(1, 3), transl=torch.zeros(1, 3))
    codecs.save_params(avatar.mesh / layout.FLAME, still, head=toy.head())
    codecs.save_offsets(avatar.mesh / layout.OFFSETS, torch.zeros_like(toy.head().v_template))


def splat_uv(avatar: Avatar, encoder: str, report: Report | None = None) -> dict[str, torch.Tensor]:
    from omega_cli.splat_uv import stage

    config = SplatUVConfig(uv_size=SIZE, encoder=encoder)
    stage.run(avatar, config, report=report or NullReport(), force=True)
    return codecs.load_tensors(avatar.uv / layout.FEATURES)


def decode(avatar: Avatar, report: Report | None = None, **settings: Any) -> dict[str, torch.Tensor]:
    """Both files of gaussians/, names prefixed with uv. and vertex.; fitted a little, as time is short."""
    from omega_cli.decode import stage

    config = DecodeConfig(**({"fit_steps": 2} | settings))
    stage.run(avatar, config, report=report or NullReport(), force=True)
    files = {"uv": layout.UV_GAUSSIANS, "vertex": layout.VERTEX_GAUSSIANS}
    return {
        f"{branch}.{name}": tensor
        for branch, file in files.items()
        for name, tensor in codecs.load_tensors(avatar.gaussians / file).items()
    }


def render(avatar: Avatar, report: Report | None = None, **settings: Any) -> dict[str, bytes]:
    """The pictures of a render, as files."""
    from omega_cli.render import stage

    config = RenderConfig(size=96, azimuth="0,100", keep_frames=True, **settings)
    folder = stage.run(avatar, config, report=report or NullReport(), force=True)
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*.png"))}
