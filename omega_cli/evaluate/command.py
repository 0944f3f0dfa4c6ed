"""`omega evaluate`."""

from __future__ import annotations

from pathlib import Path

import click

from omega_cli.evaluate.config import EvaluateConfig
from omega_cli.options import common_options, config_options


@click.command("evaluate")
@click.option(
    "-o", "--output", metavar="DIR", required=True, type=click.Path(path_type=Path, file_okay=False),
    help="Where avatars, per_image.csv, summary.json, table.md and index.html go.",
)  # fmt: skip
@config_options(EvaluateConfig)
@common_options
def command(output: Path, config: EvaluateConfig, device: str, seed: int, report, force: bool):
    """Measure the pipeline: one picture of a person in, every other camera as truth.

    Prints the protocol, makes an avatar of each source picture, finds it in the data set's world by
    landmarks, draws it for every other camera and compares. Run it again and it goes on where it stopped.

    \b
    omega evaluate --dataset studio -o runs/studio --workers 4
    omega evaluate --dataset nersemble --root /data/nersemble -o runs/nersemble
    omega evaluate --dataset valid --root /data/valid_heads -o runs/valid --ablations
    omega evaluate --dataset valid --root /data/valid_heads -o runs/try --identity Asian_F_1
    """
    from omega_cli.evaluate import stage

    return stage.run(config, output, device=device, seed=seed, report=report, force=force)
