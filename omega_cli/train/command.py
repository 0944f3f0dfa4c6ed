"""`omega train`."""

from __future__ import annotations

from pathlib import Path

import click

from omega_cli.options import common_options, config_options
from omega_cli.train.config import TrainConfig


@click.command("train")
@click.option(
    "-o", "--output", metavar="RUN", required=True, type=click.Path(path_type=Path, file_okay=False),
    help="Run folder: config.json, metrics.jsonl, samples/, scores, checkpoints, the weights.",
)  # fmt: skip
@config_options(TrainConfig)
@common_options
def command(output: Path, config: TrainConfig, device: str, seed: int, report):
    """Train a network of the pipeline on people that the studio makes.

    Workers generate people, photograph them, run the pipeline on the photos, and draw what is true; the
    network learns what the pipeline lacks. Several GPUs (views, avatar): start it with torchrun.

    \b
    omega train --stage views --preset tiny -o runs/try
    omega train --stage views --workers 14 --seconds 1200 --compile -o runs/views
    omega train --stage parser --workers 14 -o runs/parser
    omega train --stage avatar --preset tiny -o runs/look
    omega train --stage avatar-samples --workers 14 -o runs/data
    omega train --stage avatar --workers 0 --data runs/data -o runs/avatar
    omega train --stage refiner --workers 0 --data runs/data --start runs/avatar -o runs/refiner
    torchrun --nproc-per-node 2 -m omega_cli train --stage views --workers 30 -o runs/views
    """
    from omega_cli.train import stage

    return stage.run(config, output, device=device, seed=seed, report=report)
