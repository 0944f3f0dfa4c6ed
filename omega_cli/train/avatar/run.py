"""`omega train --stage avatar`, files in, files out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import omega_cli
from omega_cli import weights
from omega_cli.avatar import codecs, layout
from omega_cli.console import Report
from omega_cli.decode.config import DecodeConfig
from omega_cli.deform_flame.config import DeformFlameConfig
from omega_cli.errors import OmegaError
from omega_cli.head.assets import load_head
from omega_cli.head.model import HeadModel
from omega_cli.metrics.identity import IdentityLoss, load_identity
from omega_cli.metrics.lpips import Lpips, Net, load_lpips
from omega_cli.model import OmegaConfig, OmegaModel
from omega_cli.mv_diffuse.config import MvDiffuseConfig
from omega_cli.render.refiner import RefinerConfig
from omega_cli.splat_uv.checkpoint import read_backbone
from omega_cli.splat_uv.config import SplatUVConfig
from omega_cli.splat_uv.dino import DinoConfig, DinoEncoder
from omega_cli.splat_uv.encoder import EncoderConfig
from omega_cli.train import torchrun, workers
from omega_cli.train.avatar import checkpoints, makers, score
from omega_cli.train.avatar.loop import LoopConfig, NotFinite, Trainer
from omega_cli.train.avatar.objective import Lambdas
from omega_cli.train.avatar.pool import AvatarPool, Member
from omega_cli.train.avatar.refining import RefinerTrainer
from omega_cli.train.avatar.studio import TargetPlan
from omega_cli.train.config import TrainConfig

SHEET_PEOPLE = 8
FIRST_SEED = 3_000_000  # other people than those that the view network was trained on


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a preset decides beside TrainConfig."""

    networks: OmegaConfig
    splat: SplatUVConfig
    plan: TargetPlan
    views: MvDiffuseConfig
    fit: DeformFlameConfig
    fit_steps: int
    warmup: int

    @staticmethod
    def of(config: TrainConfig) -> Sizes:
        px = config.size
        if config.preset == "tiny":
            return Sizes(
                OmegaConfig(EncoderConfig((8, 8, 16), 4), (16, 24, 32), RefinerConfig((16, 16), 1)),
                SplatUVConfig(uv_size=64, levels=3), TargetPlan(1, 1, px),
                MvDiffuseConfig(source="lift", size=px, texture_size=128),
                DeformFlameConfig(iterations=4, map_size=64), 3, 10,
            )  # fmt: skip
        views, fit = MvDiffuseConfig(size=px), DeformFlameConfig()
        steps = DecodeConfig.fit_steps
        return Sizes(OmegaConfig(), SplatUVConfig(), TargetPlan(size=px), views, fit, steps, 200)


def run(config: TrainConfig, output: Path, *, device: str, seed: int, report: Report) -> Path:
    """Train and return the decoder's path; encoder and refiner lie beside it. `config` has its preset."""
    sizes = Sizes.of(config)
    making = _making(config, sizes, Path(config.data) if config.data else output, seed, device, report)
    if config.stage == "avatar-samples":
        return workers.watched(
            makers.start(making, config.workers), making.folder, "npz", config.most, report
        )
    earlier = _earlier(output, config.resume)
    place, rank, world = torchrun.joined(device)
    torch.manual_seed(seed)
    if place.type == "cpu":  # a look: makers need the other cores, and threads waiting for them cost 20 times
        torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True  # poses are not rounded to it
    output.mkdir(parents=True, exist_ok=True)
    making.folder.mkdir(parents=True, exist_ok=True)
    making.score_folder.mkdir(parents=True, exist_ok=True)
    processes = makers.start(making, config.workers) if rank == 0 else []
    looks = _lpips("vgg", place, report) if config.perceptual else None
    faces = _identity(place, report) if config.identity else None
    enough = min(config.wait_for, config.most)
    if world > 1:  # each reads its own share, and shares are not equal
        enough = max(1, enough // (2 * world))
    loop = LoopConfig(
        steps=config.steps or 1 << 30, seconds=config.seconds, batch=config.batch, rate=config.rate,
        warmup=sizes.warmup, at_least=enough, seed=seed,
        lambdas=Lambdas(
            perc=config.perceptual if looks is not None else 0.0,
            identity=config.identity if faces is not None else 0.0,
        ),
    )  # fmt: skip
    if rank == 0:
        codecs.save_json(output / layout.RUN_CONFIG, _record(config, loop, looks, faces, seed, world))
    try:
        model = _model(config, sizes, place)
        trainer = (RefinerTrainer if config.stage == "refiner" else Trainer)(
            model, AvatarPool(making.folder, config.pool, place, (rank, world)), looks, faces, loop
        )
        on_state = None
        if rank == 0:
            if not makers.await_scored(making, processes):
                raise OmegaError(
                    "The sample makers ended early.", f"See failed-*.txt in {making.score_folder}."
                )
            judge = Judge(trainer, config, sizes, making, output, report)
            judge.base()
            on_state = judge
        if earlier is not None:
            trainer.restore(checkpoints.read_state(earlier))
            report.note(f"going on from {earlier}")
        with report.progress("train"):
            trainer.run(output / layout.RUN_LOG, on_state, _alive(processes))
    except NotFinite as error:
        codecs.save_json(output / layout.RUN_FAILED, {"step": error.step, "samples": error.samples})
        raise
    finally:
        for process in processes:
            process.terminate()
        if world > 1:
            dist.destroy_process_group()
    return output / layout.AVATAR_DECODER


class Judge:
    """Scores averaged weights on held-out people; writes scores, checkpoints and a sheet; keeps the best."""

    def __init__(
        self,
        trainer: Trainer,
        config: TrainConfig,
        sizes: Sizes,
        making: makers.MakerConfig,
        output: Path,
        report: Report,
    ) -> None:
        self.trainer, self.config, self.making = trainer, config, making
        self.output, self.report = output, report
        place = trainer.pool.device
        self.members = [Member.load(path, place) for path in sorted(making.score_folder.glob("*.npz"))]
        self.lpips = _lpips("alex", place, report) if self.members else None
        self.untrained = _untrained(trainer.model.head, config, sizes, torch.device(place))
        self.best = min(map(score.judged, self._rows()), default=float("inf"))

    def _rows(self) -> list[dict[str, Any]]:
        path = self.output / layout.RUN_SCORES
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []

    def base(self) -> None:
        """Score the analytic avatar, once for a run."""
        path = self.output / layout.RUN_BASE_SCORES
        if self.members and not path.is_file():
            codecs.save_json(path, score.score(self.untrained, self.members, self.lpips))

    def __call__(self, state: dict[str, Any]) -> None:
        mean, about = self.trainer.averaged(), self._about(state)
        files = mean.files(**about)
        best = True
        if self.members:
            row = {k: about[k] for k in ("step", "seconds")} | score.score(mean, self.members, self.lpips)
            with (self.output / layout.RUN_SCORES).open("a") as stream:
                stream.write(json.dumps(row) + "\n")
            self.report.note(_line(row))
            best = score.judged(row) <= self.best
            self.best = min(self.best, score.judged(row))
            shown = self.members[:: max(1, len(self.members) // SHEET_PEOPLE)][:SHEET_PEOPLE]
            pictures = score.rows(mean, self.untrained, shown)
            columns = len(score.COLUMNS)
            labels = list(score.COLUMNS) + [""] * (len(pictures) - columns)
            codecs.save_image(
                self.output / layout.RUN_PEOPLE, codecs.contact_sheet(pictures, columns, labels)
            )
        checkpoints.write(self.output, state, files)
        if best:
            checkpoints.write_networks(self.output, files)

    def _about(self, state: dict[str, Any]) -> dict[str, Any]:
        """What the files say of their training."""
        sets = ["studio/*", *(["valid/*"] * bool(self.making.blends))]
        sets += ["portraits/*"] * bool(self.making.portraits or self.making.pairs)
        sets += ["ict/*"] * bool(self.making.shapes)
        held_out = ["studio/9???????", *(f"valid/{name}" for name in self.making.held_out)]
        return {
            "trained_on": sets, "held_out": held_out, "size": self.config.size, "step": state["step"],
            "seconds": round(state["seconds"], 1),
        }  # fmt: skip


def _making(
    config: TrainConfig, sizes: Sizes, data: Path, seed: int, device: str, report: Report
) -> makers.MakerConfig:
    learned = sizes.views.source == "omega" and config.workers > 0
    return makers.MakerConfig(
        data / layout.RUN_SAMPLES, data / layout.RUN_SCORED,
        view_net=weights.resolve("view_net", report) if learned else None,
        blends=Path(config.blends) if config.blends else None,
        shapes=Path(config.shapes) if config.shapes else None,
        held_out=makers.HELD_OUT if config.hold_out else (),
        portraits=Path(config.portraits) if config.portraits else None,
        pairs=Path(config.pairs) if config.pairs else None,
        most=config.most, first_seed=FIRST_SEED * (seed + 1), score_heads=config.score_heads,
        score_people=config.score_hair, plan=sizes.plan, views=sizes.views, fit=sizes.fit, splat=sizes.splat,
        fit_steps=sizes.fit_steps, device=device,
    )  # fmt: skip


def _earlier(output: Path, resume: bool) -> Path | None:
    """The checkpoint to go on from. Raises OmegaError where a run would be written over another."""
    found = checkpoints.newest(output)
    if found is not None and not resume:
        raise OmegaError(f"{output} holds a run already.", "Go on with it: --resume; or give another folder.")
    return found


def _untrained(head: HeadModel, config: TrainConfig, sizes: Sizes, place: torch.device) -> OmegaModel:
    """With our own encoder, or a pyramid over the user's DINOv3."""
    if not config.encoder_backbone:
        return OmegaModel(head, sizes.splat, sizes.networks).to(place)
    backbone, _ = read_backbone(config.encoder_backbone, str(place))
    networks = dataclasses.replace(sizes.networks, encoder=DinoConfig.of(backbone))
    model = OmegaModel(head, sizes.splat, networks).to(place)
    assert isinstance(model.encoder, DinoEncoder)
    model.encoder.attach(backbone)
    return model


def _model(config: TrainConfig, sizes: Sizes, place: torch.device) -> OmegaModel:
    model = _untrained(load_head(device=str(place)), config, sizes, place)
    if config.start:
        try:
            model.load(checkpoints.read_networks(Path(config.start)))
        except RuntimeError as error:
            raise OmegaError(
                f"The networks in {config.start} have other sizes.", "Use the same --preset."
            ) from error
    return model


def _lpips(net: Net, place: torch.device | str, report: Report) -> Lpips | None:
    try:
        return load_lpips(net, place, report)
    except OmegaError as error:
        report.warn(f"without LPIPS-{net}: {error.message}")
        return None


def _identity(place: torch.device, report: Report) -> IdentityLoss | None:
    """The user's ArcFace where it is there, else SFace."""
    try:
        return load_identity("sface" if weights.find("arcface") is None else "arcface", place, report)
    except OmegaError as error:
        report.warn(f"without an identity network: {error.message}")
        return None


def _alive(processes: list) -> Callable[[], bool]:
    """Whether samples may still come: from processes of ours, or from anybody's if there are none."""
    return lambda: not processes or any(process.is_alive() for process in processes)


def _record(
    config: TrainConfig,
    loop: LoopConfig,
    looks: Lpips | None,
    faces: IdentityLoss | None,
    seed: int,
    world: int,
) -> dict[str, Any]:
    return {
        "schema": "omega/train/1", "omega": omega_cli.__version__, "torch": torch.__version__, "seed": seed,
        "processes": world, "config": dataclasses.asdict(config), "loop": dataclasses.asdict(loop),
        "perceptual": [net.name for net in (looks, faces) if net is not None],
    }  # fmt: skip


def _line(row: dict[str, Any]) -> str:
    """A score in one line."""
    parts = [f"{row['seconds']:.0f} s, step {row['step']}"]
    for name in ("raw", "refined"):
        found = [f"{measure} {values['all']:.3f}" for measure, values in row[name].items()]
        parts.append(f"{name}: " + ", ".join(found))
    return "; ".join(parts)
