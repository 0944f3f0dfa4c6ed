"""omega mv-diffuse"""

from __future__ import annotations

from pathlib import Path

import click

from ..options import AVATAR, common_options, config_options
from .config import MvDiffuseConfig


@click.command("mv-diffuse")
@click.argument("avatar", type=AVATAR)
@click.option(
    "--views",
    type=click.Path(path_type=Path, file_okay=False),
    help="Use your own six views: a folder with rgb/000.png ... rgb/315.png, and normal/ and mask/ if you "
    "have them; what is missing comes from the lift.",
)
@config_options(MvDiffuseConfig)
@common_options
def command(avatar, views, config, device, seed, report, force):
    """Make the six views of the head (RGB, normals, masks) from the tracked portrait.

    Reads AVATAR/source, writes AVATAR/views: orthographic views at azimuths 0, 45, 90 (the subject's left
    ear), 180, 270 and 315 degrees. Look at AVATAR/views/sheet.png. You may also change pictures in
    AVATAR/views by hand: the next stages use them as they are.

    \b
      omega mv-diffuse avatar/
      omega mv-diffuse avatar/ --views my_views/
    """
    from ..avatar import record
    from . import stage

    return stage.run(
        record.open_avatar(avatar), config, device=device, seed=seed, report=report, force=force, views=views
    )
