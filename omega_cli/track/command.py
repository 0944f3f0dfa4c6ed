"""`omega track`."""

from __future__ import annotations

from pathlib import Path

import click

from omega_cli.options import INPUT_FILE, common_options, config_options
from omega_cli.track.config import TrackConfig


@click.command("track")
@click.argument("image", type=INPUT_FILE)
@click.option(
    "-o",
    "--output",
    metavar="AVATAR",
    required=True,
    type=click.Path(path_type=Path),
    help="Avatar folder; for a film the motion file to write, NAME.npz.",
)
@config_options(TrackConfig)
@common_options
def command(image: Path, output: Path, config: TrackConfig, device: str, seed: int, report, force: bool):
    """Find the face in IMAGE: crop, matte, parsing, landmarks, and the head fitted to it.

    IMAGE may be any photo or drawing of a face; of an animation the first picture is taken. With an
    output that ends in .npz, IMAGE is a film (or a GIF) and its motion is written.

    \b
    omega track face.jpg -o avatar/
    omega track group.jpg -o avatar/ --face 1
    omega track driver.mp4 -o motion.npz
    """
    from omega_cli.track import stage

    if output.suffix == ".npz":
        return stage.run_film(image, output, config, report=report)

    from omega_cli.avatar import record

    stage.read_input(image)
    avatar = record.create_avatar(output, image, force=force)
    return stage.run(avatar, config, image=image, device=device, seed=seed, report=report, force=force)
