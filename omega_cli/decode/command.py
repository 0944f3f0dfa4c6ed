"""`omega decode`."""

from __future__ import annotations

from pathlib import Path

import click

from omega_cli.decode.config import DecodeConfig
from omega_cli.options import AVATAR, common_options, config_options


@click.command("decode")
@click.argument("avatar", type=AVATAR)
@config_options(DecodeConfig)
@common_options
def command(avatar: Path, config: DecodeConfig, device: str, seed: int, report, force: bool):
    """Turn the UV map into Gaussians bound to the head, and a canonical PLY.

    \b
    omega decode avatar/
    omega decode avatar/ --texel-sigma 0.7
    """
    from omega_cli.avatar import record
    from omega_cli.decode import stage

    opened = record.open_avatar(avatar)
    return stage.run(opened, config, device=device, seed=seed, report=report, force=force)
