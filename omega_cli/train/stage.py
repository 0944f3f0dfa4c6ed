"""train, files in, files out: a run folder with config, log, scores, pictures and the weights."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

import omega_cli
from omega_cli.avatar import codecs, folders, layout
from omega_cli.console import Report
from omega_cli.errors import OmegaError
from omega_cli.metrics.lpips import load_lpips
from omega_cli.mv_diffuse import checkpoint
from omega_cli.mv_diffuse.network import ViewNet, ViewNetConfig
from omega_cli.train import torchrun, workers
from omega_cli.train.config import PRESETS, TrainConfig
from omega_cli.train.views import makers, scoring
from omega_cli.train.views.loop import LoopConfig, train
from omega_cli.train.views.pool import Pool

TINY_NET = ViewNetConfig(channels=(32, 32, 64), width=64, layers=1, embedding=32, positions=4)
SHEET_SAMPLES = 6


def run(config: TrainConfig, output: Path, *, device: str = "cpu", seed: int = 0, report: Report) -> Path:
    """Train and return the weights' path. Under torchrun every process trains, the first one writes."""
    config = _with_preset(config)
    if config.stage == "parser":
        from omega_cli.train.parser import run as parser

        return parser.run(config, output, device=device, seed=seed, report=report)
    if config.stage in ("avatar", "avatar-samples", "refiner"):
        from omega_cli.train.avatar import run as avatar

        return avatar.run(config, output, device=device, seed=seed, report=report)
    if config.stage == "samples":
        samples = output / layout.RUN_SAMPLES
        making = _start_makers(config, samples, output / layout.RUN_SCORED, seed)
        return workers.watched(making, samples, "npy", config.most, report)
    place, rank, world = torchrun.joined(device)
    torch.manual_seed(seed)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    output.mkdir(parents=True, exist_ok=True)
    samples, scored = output / layout.RUN_SAMPLES, output / layout.RUN_SCORED
    processes = _start_makers(config, samples, scored, seed) if rank == 0 else []
    samples.mkdir(exist_ok=True)
    net = _network(config).to(place)
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pool = Pool(samples, config.pool, config.size, place)
    looks = load_lpips("vgg", place, report) if config.perceptual else None
    judge = load_lpips("alex", place, report) if config.score_heads or config.score_hair else None
    if rank == 0:
        codecs.save_json(output / layout.RUN_CONFIG, _record(config, seed, world))

    def on_score(mean: ViewNet, step: int, seconds: float) -> None:
        if judge is not None:
            row = {"step": step, "seconds": round(seconds, 1)} | scoring.score(mean, scored, judge, place)
            with (output / layout.RUN_SCORES).open("a") as stream:
                stream.write(json.dumps(row) + "\n")
            report.note(_line(row))
        with folders.writing_file(output / layout.VIEW_NET) as scratch:
            scratch.write_bytes(_bytes(mean, config, step, seconds))

    if rank == 0 and judge is not None:
        _await_scores(config, scored, processes)
        codecs.save_json(output / layout.RUN_BASE_SCORES, scoring.score(None, scored, judge, place))
    loop = LoopConfig(
        seconds=config.seconds, batch=config.batch, rate=config.rate, perceptual=config.perceptual,
        at_least=config.wait_for, compile=config.compile, seed=seed,
    )  # fmt: skip
    began = time.perf_counter()
    try:
        with report.progress("train"):
            mean = train(net, pool, looks, loop, output / layout.RUN_LOG, on_score)
        if rank == 0:
            on_score(mean, -1, time.perf_counter() - began)
            _sheet(mean, scored, output, place)
    finally:
        for process in processes:
            process.terminate()
    if world > 1:
        dist.destroy_process_group()
    return output / layout.VIEW_NET


def _with_preset(config: TrainConfig) -> TrainConfig:
    plain = TrainConfig()
    values = PRESETS[config.stage][config.preset]
    chosen = {k: v for k, v in values.items() if getattr(config, k) == getattr(plain, k)}
    return dataclasses.replace(config, **chosen)  # type: ignore[arg-type]


def _network(config: TrainConfig) -> ViewNet:
    if config.start:
        path = Path(config.start)
        if not path.is_file():
            raise OmegaError(f"There are no weights {path}.", "Leave --start out to begin from the lift.")
        return checkpoint.from_bytes(path.read_bytes(), str(path))[0].train()
    return ViewNet(TINY_NET if config.preset == "tiny" else ViewNetConfig())


def _start_makers(config: TrainConfig, samples: Path, scored: Path, seed: int) -> list:
    scored.mkdir(parents=True, exist_ok=True)
    return makers.start(
        makers.MakerConfig(
            samples, config.size, blends=Path(config.blends) if config.blends else None,
            shapes=Path(config.shapes) if config.shapes else None,
            held_out=scoring.HELD_OUT if config.hold_out else (), most=config.most,
            portraits=Path(config.portraits) if config.portraits else None, first_seed=1_000_000 * (seed + 1),
            score_folder=scored, score_tasks=_score_tasks(config),
        ),
        config.workers,
    )  # fmt: skip


def _score_tasks(config: TrainConfig) -> tuple[tuple[str, str | int, int], ...]:
    heads = config.score_heads if config.blends else 0
    return tuple(scoring.tasks(heads, config.score_hair))


def _await_scores(config: TrainConfig, scored: Path, processes: list) -> None:
    """Scores compare runs, so all of their samples must be there, or have failed."""
    names = [name for name, _, _ in _score_tasks(config)]
    while not all((scored / f"{n}.npy").exists() or workers.failure(scored, n).exists() for n in names):
        if processes and not any(process.is_alive() for process in processes):
            raise OmegaError("The sample makers ended early.", f"See failed-*.txt in {scored}.")
        time.sleep(0.5)


def _record(config: TrainConfig, seed: int, world: int) -> dict[str, Any]:
    return {
        "schema": "omega/train/1", "omega": omega_cli.__version__, "torch": torch.__version__, "seed": seed,
        "processes": world, "config": dataclasses.asdict(config),
    }  # fmt: skip


def _bytes(net: ViewNet, config: TrainConfig, step: int, seconds: float) -> bytes:
    sets = (
        ["studio/*"]
        + (["valid/*"] if config.blends else [])
        + (["portraits/*"] if config.portraits else [])
        + (["ict/*"] if config.shapes else [])
    )
    return checkpoint.to_bytes(
        net, trained_on=sets, size=config.size, step=step, seconds=round(seconds, 1),
        held_out=["studio/9???????", *(f"valid/{n}" for n in scoring.HELD_OUT if config.hold_out)],
    )  # fmt: skip


def _line(row: dict[str, Any]) -> str:
    """A score in one line."""
    text = [f"{row['seconds']:.0f} s, step {row['step']}"]
    for group in ("head", "hair"):
        if group in row:
            parts = [f"{name} {row[group][name]['all']:.3f}" for name in ("lpips", "psnr", "iou", "normal")]
            text.append(f"{group}: " + ", ".join(parts))
    return "; ".join(text)


def _sheet(net: ViewNet, scored: Path, output: Path, place: torch.device) -> None:
    """What the network makes of some scored samples, beside lift and truth."""
    for group in ("head", "hair"):
        paths = sorted(scored.glob(f"{group}-*.npy"))
        chosen = paths[:: max(1, len(paths) // SHEET_SAMPLES)][:SHEET_SAMPLES]
        pictures = []
        for path in chosen:
            pictures += scoring.rows(net, torch.from_numpy(np.load(path, allow_pickle=False)).to(place))
        if pictures:
            codecs.save_image(output / f"{group}.png", codecs.contact_sheet(pictures, columns=7))
