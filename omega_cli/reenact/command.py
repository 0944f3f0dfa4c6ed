"""`omega reenact`."""

from __future__ import annotations

from pathlib import Path

import click

from omega_cli.options import AVATAR, INPUT_FILE, common_options, config_options
from omega_cli.reenact.config import ReenactConfig


@click.command("reenact")
@click.argument("avatar", type=AVATAR)
@click.argument("driver", type=INPUT_FILE)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Also write the film here."
)
@config_options(ReenactConfig)
@common_options
def command(
    avatar: Path,
    driver: Path,
    output: Path | None,
    config: ReenactConfig,
    device: str,
    seed: int,
    report,
    force: bool,
):
    """Drive the avatar with DRIVER: a film of a face, or a motion.npz.

    \b
    omega reenact avatar/ driver.mp4 -o out.mp4
    omega reenact avatar/ driver.mp4 --side-by-side --camera orbit
    omega reenact other_avatar/ avatar/reenact/driver/motion.npz
    """
    from omega_cli.avatar import record
    from omega_cli.reenact import stage

    opened = record.open_avatar(avatar)
    return stage.run(
        opened, config, driver=driver, output=output, device=device, seed=seed, report=report, force=force
    )
