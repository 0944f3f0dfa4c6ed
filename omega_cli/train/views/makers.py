"""Processes that make training samples and write them into a folder, one file each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from omega_cli.data.studio.look import Draw
from omega_cli.data.studio.people import sample_person
from omega_cli.head.frame import head_frame
from omega_cli.train import workers
from omega_cli.train.views import portraits
from omega_cli.train.views.samples import Studio, front_sample


@dataclass(frozen=True)
class MakerConfig:
    """blends: a pack of VALID heads or None; blend_share of the people come from it, without `held_out`;
    shapes: a pack of shapes for half of the generated people (not of those that are scored on) or None."""

    folder: Path
    size: int = 192
    half_extent: float = 0.21
    blends: Path | None = None
    blend_share: float = 0.4
    shapes: Path | None = None
    held_out: tuple[str, ...] = ()
    shots: int = 2  # photos of each person
    most: int = 1 << 30  # samples in all
    first_seed: int = 0
    portraits: Path | None = None
    score_folder: Path | None = None
    score_tasks: tuple[tuple[str, str | int, int], ...] = ()


def work(config: MakerConfig, number: int, count: int) -> None:
    """Worker `number` of `count`: people first_seed + number, + count, ... until `most` samples are there."""
    workers.alone()
    with torch.inference_mode():
        studio = Studio(config.size, config.half_extent, config.blends, config.held_out, config.shapes)
        _make_scored(config, studio, number, count)
        _make_fronts(config, studio, number, count)
        seed = config.first_seed + number
        while sum(1 for _ in config.folder.glob("*.npy")) < config.most:
            pick = Draw(torch.Generator().manual_seed(seed * 7 + 3)).uniform()
            blend = config.blends is not None and pick < config.blend_share
            kind = "blend" if blend else "person"
            with workers.forgiven(workers.failure(config.folder, str(seed))):
                for shot, sample in enumerate(studio.samples(seed, blend, config.shots)):
                    workers.write(config.folder / f"{kind}-{seed:08d}-{shot}.npy", sample)
            seed += count


def _make_scored(config: MakerConfig, studio: Studio, number: int, count: int) -> None:
    """This worker's part of the samples that runs are scored on."""
    if config.score_folder is None:
        return
    for name, who, k in config.score_tasks[number::count]:
        path = config.score_folder / f"{name}.npy"
        if path.exists():
            continue
        rng = torch.Generator().manual_seed(k * 31 + 17)
        with workers.forgiven(workers.failure(config.score_folder, name)):
            if isinstance(who, str):
                workers.write(path, studio.head(who, rng, 0.6))
            else:
                workers.write(path, studio.sample(sample_person(who, studio.plain), rng, 0.6))


def _make_fronts(config: MakerConfig, studio: Studio, number: int, count: int) -> None:
    """This worker's part of the photographs."""
    if config.portraits is None:
        return
    for portrait in portraits.read(config.portraits, portraits.names(config.portraits)[number::count]):
        params, camera = head_frame(studio.sources.model, portrait.params, portrait.camera)
        sample = front_sample(
            studio.photographer, params, camera, portrait.rgba, portrait.labels, portrait.area, config.size
        )
        workers.write(config.folder / f"front-{portrait.name}.npy", sample)


def start(config: MakerConfig, count: int) -> list:
    """`count` worker processes, already running. Daemons: they end with the caller."""
    config.folder.mkdir(parents=True, exist_ok=True)
    return workers.start(work, config, count)
