"""`omega studio`."""

from __future__ import annotations

from pathlib import Path

import click

from omega_cli.options import common_options


@click.group("studio")
def command():
    """Generated people: endless multi-view ground truth from the open head."""


@command.command("preview")
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the sheets.",
)
@click.option(
    "--people", type=click.IntRange(1, 1000), default=40, show_default=True, help="How many people."
)
@click.option(
    "--size",
    type=click.IntRange(32, 1024),
    default=256,
    show_default=True,
    help="Side of one picture, pixels.",
)
@click.option("--plain", is_flag=True, help="Even light and faces at rest, to compare people.")
@click.option(
    "--shapes",
    metavar="PACK",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Half of the people take their shape from this pack (omega_cli.data.studio.ict_pack).",
)
@common_options
def preview(output: Path, people: int, size: int, plain: bool, shapes: Path | None, seed: int, report):
    """Draw contact sheets of random people, to look at.

    A sheet each for front, three quarters, side and back; all views, labels and normals of the first twelve.

    People are seeds: --seed 7 --people 3 shows persons 7, 8 and 9. Prints the paths of the sheets.

    \b
      omega studio preview -o sheets/
      omega studio preview -o sheets/ --people 8 --size 512 --plain
    """
    from omega_cli.data.studio import preview as stage

    return stage.run(output, people=people, size=size, plain=plain, shapes=shapes, seed=seed, report=report)
