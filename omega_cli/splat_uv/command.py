"""`omega splat-uv`."""

from __future__ import annotations

from pathlib import Path

import click

from omega_cli.options import AVATAR, common_options, config_options
from omega_cli.splat_uv.config import SplatUVConfig


@click.command("splat-uv")
@click.argument("avatar", type=AVATAR)
@config_options(SplatUVConfig)
@common_options
def command(avatar: Path, config: SplatUVConfig, device: str, seed: int, report, force: bool):
    """Splat the six views' features into one canonical UV map.

    \b
    omega splat-uv avatar/
    omega splat-uv avatar/ --uv-size 512 --keep-views
    omega splat-uv avatar/ --no-visibility-fusion
    """
    from omega_cli.avatar import record
    from omega_cli.splat_uv import stage

    opened = record.open_avatar(avatar)
    return stage.run(opened, config, device=device, seed=seed, report=report, force=force)
