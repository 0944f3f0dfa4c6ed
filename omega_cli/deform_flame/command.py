"""`omega deform-flame`."""

from __future__ import annotations

from pathlib import Path

import click

from omega_cli.deform_flame.config import DeformFlameConfig
from omega_cli.options import AVATAR, common_options, config_options


@click.command("deform-flame")
@click.argument("avatar", type=AVATAR)
@config_options(DeformFlameConfig)
@common_options
def command(avatar: Path, config: DeformFlameConfig, device: str, seed: int, report, force: bool):
    """Bend the head mesh to the six views' normals and masks.

    \b
    omega deform-flame avatar/
    omega deform-flame avatar/ --no-semantic-laplacian
    omega deform-flame avatar/ --mesh my_head.obj
    """
    from omega_cli.avatar import record
    from omega_cli.deform_flame import stage

    opened = record.open_avatar(avatar)
    return stage.run(opened, config, device=device, seed=seed, report=report, force=force)
