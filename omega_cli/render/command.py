"""`omega render`."""

from __future__ import annotations

from pathlib import Path

import click

from omega_cli.options import AVATAR, common_options, config_options
from omega_cli.render.config import RenderConfig


@click.command("render")
@click.argument("avatar", type=AVATAR)
@config_options(RenderConfig)
@common_options
def command(avatar: Path, config: RenderConfig, device: str, seed: int, report, force: bool):
    """Render the avatar: a turntable film and a contact sheet, or chosen directions.

    \b
    omega render avatar/
    omega render avatar/ --name sides --azimuth 0,45,90,180 --background transparent
    omega render avatar/ --name mine --cameras my_cameras.json --keep-frames
    """
    from omega_cli.avatar import record
    from omega_cli.render import stage

    opened = record.open_avatar(avatar)
    return stage.run(opened, config, device=device, seed=seed, report=report, force=force)
