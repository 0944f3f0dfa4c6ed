"""The stages in order, and the decision which of them to run. Imports no torch until a stage runs."""

from __future__ import annotations

import dataclasses
import gc
import importlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omega_cli.avatar import freshness, layout
from omega_cli.avatar.layout import Avatar
from omega_cli.console import Report
from omega_cli.errors import OmegaError


@dataclass(frozen=True)
class Step:
    """One stage: its subcommand, the folder it writes, the room that does it."""

    name: str
    folder: str
    room: str
    config: str

    def path(self, avatar: Avatar) -> Path:
        return avatar.root / self.folder

    def config_class(self) -> type:
        return getattr(importlib.import_module(f"omega_cli.{self.room}.config"), self.config)

    def stage(self) -> Any:
        return importlib.import_module(f"omega_cli.{self.room}.stage")


STEPS = (
    Step("track", "source", "track", "TrackConfig"),
    Step("mv-diffuse", "views", "mv_diffuse", "MvDiffuseConfig"),
    Step("deform-flame", "mesh", "deform_flame", "DeformFlameConfig"),
    Step("splat-uv", "uv", "splat_uv", "SplatUVConfig"),
    Step("decode", "gaussians", "decode", "DecodeConfig"),
    Step("render", f"renders/{layout.TURNTABLE}", "render", "RenderConfig"),
)
NAMES = tuple(step.name for step in STEPS)

NETWORKS = {"encoder": layout.AVATAR_ENCODER, "net": layout.AVATAR_DECODER, "refiner": layout.AVATAR_REFINER}
"""The avatar networks' files in a run of `omega train`, by the setting that names each."""

What = Literal["made", "fresh", "edited"]


@dataclass(frozen=True)
class Done:
    """What became of one stage, and the seconds it took now (0 where it was not run)."""

    name: str
    what: What
    seconds: float
    why: str = ""


def network_settings(choice: str) -> dict[str, dict[str, Any]]:
    """Settings of the stages for the avatar networks: "auto", "none", or a folder with one's own.

    Raises OmegaError where the folder lacks a decoder; encoder and refiner may be missing.
    """
    named = {"auto": ("auto", "auto", "", None, ""), "none": ("none", "analytic", "", False, "")}
    values = named.get(choice)
    if values is None:
        own = {what: str(path) for what, name in NETWORKS.items() if (path := Path(choice) / name).is_file()}
        if "net" not in own:
            raise OmegaError(
                f"There is no avatar network in {choice} ({layout.AVATAR_DECODER} is missing).",
                "Give the folder of a run of omega train, or auto, or none.",
            )
        refiner = own.get("refiner", "")
        values = (own.get("encoder", "none"), "omega", own["net"], bool(refiner), refiner)
    encoder, source, net, refine, refiner = values
    return {
        "splat-uv": {"encoder": encoder},
        "decode": {"source": source, "net": net},
        "render": {"refine": refine, "refiner": refiner},
    }


def chosen_steps(from_stage: str | None, until_stage: str | None) -> tuple[Step, ...]:
    """The steps from `from_stage` to `until_stage`, both included; ValueError when they are crossed."""
    first = NAMES.index(from_stage) if from_stage else 0
    last = NAMES.index(until_stage) if until_stage else len(NAMES) - 1
    if first > last:
        raise ValueError(f"--from {from_stage} comes after --until {until_stage}")
    return STEPS[first : last + 1]


def step_config(step: Step, avatar: Avatar, given: Mapping[str, Any], force: bool) -> tuple[Any, int | None]:
    """(settings, recorded seed) of a step: those its folder was made with, under what was given now.

    So `omega decode avatar/ --uv-size 512` is not undone by the next `omega generate`. With `force`,
    or where there is no readable record, the defaults.
    """
    cls = step.config_class()
    names = {f.name for f in dataclasses.fields(cls)}
    kept: dict[str, Any] = {}
    seed = None
    if not force and (step.path(avatar) / layout.STAGE).is_file():
        try:
            recorded = freshness.read_stage(step.path(avatar))
        except OmegaError:
            recorded = {"params": {}, "seed": None}
        seed = recorded["seed"]
        kept = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in recorded["params"].items()
            if name in names
        }
    given = {name: value for name, value in given.items() if name in names}
    try:
        return cls(**(kept | given)), seed
    except (TypeError, ValueError):  # a record that this version's checks refuse
        return cls(**given), seed


def decide(state: str, *, asked: bool, force: bool) -> Literal["run", "fresh", "edited"]:
    """Whether to run a step whose folder is in `state` (avatar/freshness.py).

    asked: the user named it, or a stage before it, with --from. Edited work is never overwritten without
    force.
    """
    if force:
        return "run"
    if state == "edited":
        return "edited"
    return "fresh" if state == "fresh" and not asked else "run"


def make_avatar(
    avatar: Avatar,
    image: Path,
    *,
    settings: Mapping[str, Mapping[str, Any]],
    from_stage: str | None = None,
    until_stage: str | None = None,
    device: str = "cpu",
    seed: int | None = None,
    report: Report,
    force: bool = False,
) -> list[Done]:
    """Bring one avatar up to date. `settings`: stage name -> fields that were given now.

    seed None keeps each folder's recorded seed (0 for new ones). Raises OmegaError from the stage that
    fails; what earlier stages made stays and is resumed by the next call.
    """
    steps = chosen_steps(from_stage, until_stage)
    done: list[Done] = []
    for step in STEPS[: STEPS.index(steps[0])]:
        found = freshness.status(avatar, step.path(avatar))
        if found.state in ("missing", "damaged"):
            raise OmegaError(
                f"--from {from_stage} needs {step.folder}/: {'; '.join(found.reasons)}.",
                f"Start with --from {step.name}, or leave --from out.",
            )
    with report.progress("generate", total=len(steps)) as bar:
        for step in steps:
            done.append(
                _one(step, avatar, image, settings.get(step.name, {}), from_stage is not None,
                     device, seed, report, force)
            )  # fmt: skip
            if done[-1].what == "made" and step.name == "track":
                avatar = Avatar(avatar.root)
            gc.collect()  # a stage's networks and images go before the next one's come
            bar.advance()
    return done


def _one(
    step: Step, avatar: Avatar, image: Path, given: Mapping[str, Any], asked: bool,
    device: str, seed: int | None, report: Report, force: bool,
) -> Done:  # fmt: skip
    folder = step.path(avatar)
    config, recorded_seed = step_config(step, avatar, given, force)
    seed = recorded_seed or 0 if seed is None else seed
    found = freshness.status(avatar, folder, config=config, seed=seed)
    if found.state == "newer" and not force:
        raise OmegaError(
            f"{step.folder}/ was made by a newer omega.", "Update omega, or remake it with --force."
        )
    what = decide(found.state, asked=asked, force=force)
    why = "; ".join(found.reasons[:2])
    if what == "edited":
        report.note(f"{step.name:<12}  {step.folder}/ is used as it is: {why}")
        return Done(step.name, "edited", 0.0, why)
    if what == "fresh":
        report.detail(f"{step.name:<12}  {step.folder}/ is fresh")
        return Done(step.name, "fresh", 0.0)
    if found.state in ("stale", "damaged"):
        report.note(f"{step.name:<12}  made again: {why}")
    started = time.perf_counter()
    more = {"image": image} if step.name == "track" else {}
    step.stage().run(avatar, config, device=device, seed=seed, report=report, force=force, **more)
    return Done(step.name, "made", time.perf_counter() - started, why)
