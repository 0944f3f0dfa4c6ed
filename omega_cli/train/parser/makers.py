"""Processes that draw people with labels and write them, a file of several pictures for each person."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from omega_cli.data.studio.look import Draw
from omega_cli.train import workers
from omega_cli.train.parser.drawn import Studio
from omega_cli.train.views.scoring import FIRST_HARD, HELD_OUT


@dataclass(frozen=True)
class MakerConfig:
    """blends: a pack of VALID heads or None; blend_share of the people come from it, without HELD_OUT;
    score_heads, score_people: how many are scored on, with the same number of pictures each."""

    folder: Path
    score_folder: Path
    size: int = 256
    blends: Path | None = None
    blend_share: float = 0.35
    shots: int = 4  # pictures of each person
    most: int = 1 << 30  # people in all
    first_seed: int = 0
    score_heads: int = 8
    score_people: int = 16


def scored(config: MakerConfig) -> list[tuple[str, str | int]]:
    """(file stem, head or seed) of what a run is scored on and never trained on."""
    names = HELD_OUT[: config.score_heads] if config.blends is not None else ()
    seeds = range(FIRST_HARD, FIRST_HARD + config.score_people)
    return [*((f"head-{name}", name) for name in names), *((f"person-{seed}", seed) for seed in seeds)]


def work(config: MakerConfig, number: int, count: int) -> None:
    """Worker `number` of `count`: people first_seed + number, + count, ..."""
    workers.alone()
    with torch.inference_mode():
        studio = Studio(config.size, config.blends, HELD_OUT)
        for name, who in scored(config)[number::count]:
            path = config.score_folder / f"{name}.npy"
            with workers.forgiven(workers.failure(config.score_folder, name)):
                by_name = isinstance(who, str)
                seen = studio.head(who, 1, 3) if by_name else studio.samples(who, False, 3)
                workers.write(path, seen)
        for seed in range(config.first_seed + number, config.first_seed + config.most, count):
            pick = Draw(torch.Generator().manual_seed(seed * 7 + 3)).uniform()
            blend = config.blends is not None and pick < config.blend_share
            with workers.forgiven(workers.failure(config.folder, str(seed))):
                seen = studio.samples(seed, blend, config.shots)
                workers.write(config.folder / f"{'blend' if blend else 'person'}-{seed:08d}.npy", seen)


def start(config: MakerConfig, count: int) -> list:
    """`count` worker processes, already running. Daemons: they end with the caller."""
    config.folder.mkdir(parents=True, exist_ok=True)
    config.score_folder.mkdir(parents=True, exist_ok=True)
    return workers.start(work, config, count)
