"""Processes that make samples of the avatar network and write them into a folder, one file each."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from omega_cli.data.studio.blends import plain_blend, sample_blend
from omega_cli.data.studio.look import Draw
from omega_cli.data.studio.people import sample_person
from omega_cli.decode.config import DecodeConfig
from omega_cli.deform_flame.config import DeformFlameConfig
from omega_cli.head.assets import load_head
from omega_cli.mv_diffuse import checkpoint
from omega_cli.mv_diffuse.config import MvDiffuseConfig
from omega_cli.splat_uv.config import SplatUVConfig
from omega_cli.train import workers
from omega_cli.train.avatar import fitting, pairs
from omega_cli.train.avatar.samples import AvatarSample
from omega_cli.train.avatar.studio import AvatarStudio, TargetPlan
from omega_cli.train.views import portraits
from omega_cli.train.views.samples import Studio
from omega_cli.train.views.scoring import FIRST_HARD, HELD_OUT

PORTRAIT_EVERY = 4  # so many people come before a worker's next photograph
BLEND_SHARE = 0.35  # of the people, where there is a pack of heads


@dataclass(frozen=True)
class MakerConfig:
    """view_net: file of the network behind the six views, None: the lift; blends: a pack of VALID heads or
    None, of which `held_out` are scored on alone; shapes: a pack of shapes for half of the generated people
    (not of those that are scored on) or None; score_heads: photos of each head; score_people: so many
    generated ones; most: samples to train on in all."""

    folder: Path
    score_folder: Path
    view_net: Path | None = None
    blends: Path | None = None
    shapes: Path | None = None
    held_out: tuple[str, ...] = HELD_OUT
    portraits: Path | None = None
    pairs: Path | None = None
    most: int = 1 << 30
    first_seed: int = 0
    score_heads: int = 1
    score_people: int = 16
    plan: TargetPlan = field(default_factory=TargetPlan)
    views: MvDiffuseConfig = field(default_factory=MvDiffuseConfig)
    fit: DeformFlameConfig = field(default_factory=DeformFlameConfig)
    splat: SplatUVConfig = field(default_factory=SplatUVConfig)
    fit_steps: int = DecodeConfig.fit_steps
    device: str = "cpu"


def scored(config: MakerConfig) -> list[tuple[str, str | int, int]]:
    """(file stem, head or seed, photo number) of what a run is scored on and never trained on."""
    heads = config.held_out if config.blends is not None else ()
    seeds = range(FIRST_HARD, FIRST_HARD + config.score_people)
    return [
        *((f"head-{name}-{k}", name, k) for name in heads for k in range(config.score_heads)),
        *((f"person-{seed}", seed, 0) for seed in seeds),
    ]


def work(config: MakerConfig, number: int, count: int) -> None:
    """Worker `number` of `count`: its part of what is scored, then people and photographs in turns."""
    workers.alone()
    with torch.no_grad():  # inference mode's tensors could not be fitted to
        studio, finish = _studio(config), finisher(config)
        _make_scored(config, studio, finish, number, count)
        photos = _photos(config, studio, number, count)
        seed, turn = config.first_seed + number, 0
        while sum(1 for _ in config.folder.glob("*.npz")) < config.most:
            turn += 1
            photo = next(photos, None) if turn % (PORTRAIT_EVERY + 1) == 0 else None
            if photo is not None:
                name, make = photo
            else:
                blend = config.blends is not None and _pick(seed) < BLEND_SHARE
                name, seed = f"{'blend' if blend else 'person'}-{seed:08d}", seed + count
                make = functools.partial(_person, config, studio, name)
            path = config.folder / f"{name}.npz"
            if path.exists():  # of a run that goes on
                continue
            with workers.forgiven(workers.failure(config.folder, name)):
                finish(make()).save(path)


def _photos(
    config: MakerConfig, studio: AvatarStudio, number: int, count: int
) -> Iterator[tuple[str, Callable[[], AvatarSample]]]:
    """A worker's photographs, pairs first: a file stem and what makes the sample."""
    if config.pairs is not None:
        mine = pairs.names(config.pairs)[number::count]
        for (first, second), both in zip(mine, pairs.read(config.pairs, mine), strict=True):
            face = pairs.kept_face(config.pairs, second)
            yield f"pair-{first}", functools.partial(pairs.sample, studio, *both, face)
    if config.portraits is not None:
        for one in portraits.read(config.portraits, portraits.names(config.portraits)[number::count]):
            yield f"front-{one.name}", functools.partial(studio.portrait, one)


def _studio(config: MakerConfig) -> AvatarStudio:
    net, size = None, 0
    if config.view_net is not None:
        net, about = checkpoint.from_bytes(config.view_net.read_bytes(), str(config.view_net))
        net, size = net.eval(), int(str(about.get("size", 192)))
    studio = Studio(
        size or config.views.size, config.views.half_extent, config.blends, config.held_out, config.shapes
    )
    return AvatarStudio(studio, net, size, config.plan, config.views, config.fit, config.device)


def _pick(seed: int) -> float:
    return Draw(torch.Generator().manual_seed(seed * 7 + 3)).uniform()


def _person(config: MakerConfig, studio: AvatarStudio, name: str) -> AvatarSample:
    """ "blend-SEED" or "person-SEED"."""
    kind, number = name.split("-")
    seed, sources = int(number), studio.studio
    if kind == "blend":
        assert sources.blends is not None
        person = sample_blend(seed, sources.blends, config.held_out)
    else:
        person = sample_person(seed, sources.sources)
    return studio.sample(person, torch.Generator().manual_seed(seed * 1009))


def finisher(config: MakerConfig) -> Callable[[AvatarSample], AvatarSample]:
    """The last step of a sample: its fit to photo and views."""
    head = load_head(device=config.device)
    return functools.partial(fitting.fitted, head=head, splat=config.splat, steps=config.fit_steps)


def _make_scored(
    config: MakerConfig,
    studio: AvatarStudio,
    finish: Callable[[AvatarSample], AvatarSample],
    number: int,
    count: int,
) -> None:
    for name, who, k in scored(config)[number::count]:
        path = config.score_folder / f"{name}.npz"
        if path.exists():
            continue
        with workers.forgiven(workers.failure(config.score_folder, name)):
            if isinstance(who, int):
                person = sample_person(who, studio.studio.plain)
            else:
                assert studio.studio.blends is not None
                person = plain_blend(who, studio.studio.blends)
            finish(studio.sample(person, torch.Generator().manual_seed(k * 31 + 17))).save(path)


def await_scored(config: MakerConfig, processes: list) -> bool:
    """Wait until the processes have made what is scored, so that scores can be compared; whether they have,
    but for what failed. Without processes it is whatever the folder holds."""
    names = [name for name, _, _ in scored(config)]

    def there(name: str) -> bool:
        folder = config.score_folder
        return (folder / f"{name}.npz").exists() or workers.failure(folder, name).exists()

    while processes and not all(there(name) for name in names):
        if not any(process.is_alive() for process in processes):
            return False
        time.sleep(0.2)
    return True


def start(config: MakerConfig, count: int) -> list:
    """`count` worker processes, already running. Daemons: they end with the caller."""
    config.folder.mkdir(parents=True, exist_ok=True)
    config.score_folder.mkdir(parents=True, exist_ok=True)
    return workers.start(work, config, count)
