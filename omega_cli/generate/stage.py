"""One avatar or a batch of them, the summary at the end, the list of what failed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omega_cli.avatar import freshness, layout, record
from omega_cli.avatar.layout import Avatar
from omega_cli.console import Report
from omega_cli.errors import OmegaError
from omega_cli.generate import batch, pipeline
from omega_cli.generate.pipeline import Done


@dataclass
class Result:
    """What a run of `generate` made: the sheets (or last folders), and the stages of each avatar."""

    paths: list[Path] = field(default_factory=list)
    avatars: dict[str, dict[str, Any]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {"paths": [str(p) for p in self.paths], "avatars": self.avatars}


def run(
    images: list[Path],
    output: Path,
    *,
    settings: Mapping[str, Mapping[str, Any]],
    from_stage: str | None = None,
    until_stage: str | None = None,
    device: str = "cpu",
    seed: int | None = None,
    report: Report,
    force: bool = False,
) -> Result:
    """Make or update the avatars of `images`. One picture: `output` is its avatar folder.

    A batch goes on after a picture that fails and raises OmegaError with the list at its end.
    """
    how = {
        "settings": settings, "from_stage": from_stage, "until_stage": until_stage,
        "device": device, "seed": seed, "report": report, "force": force,
    }  # fmt: skip
    pictures, is_batch = batch.collect(images)
    result = Result()
    if not is_batch:
        _make(pictures[0], output, result, how)
        return result
    if (output / layout.AVATAR).exists():
        raise OmegaError(
            f"{output}/ is an avatar, but several pictures need a folder of avatars.", "Choose another -o."
        )
    failed: list[tuple[Path, str]] = []
    for number, (picture, name) in enumerate(zip(pictures, batch.avatar_names(pictures), strict=True), 1):
        report.note(f"[{number}/{len(pictures)}] {picture} → {output / name}/")
        try:
            _make(picture, output / name, result, how)
        except OmegaError as error:
            failed.append((picture, error.message))
            report.note(f"  failed: {error.message}")
        except Exception as error:  # one bad picture must not end a night's batch
            failed.append((picture, f"{type(error).__name__}: {error}"))
            report.note(f"  failed unexpectedly: {type(error).__name__}: {error}")
    if failed:
        lines = "\n".join(f"  {path}: {why}" for path, why in failed)
        raise OmegaError(
            f"{len(failed)} of {len(pictures)} pictures failed:\n{lines}",
            "The other avatars are complete; run the same command again to retry the failed ones.",
        )
    return result


def _make(picture: Path, root: Path, result: Result, how: dict[str, Any]) -> None:
    report: Report = how["report"]
    started = time.perf_counter()
    avatar = record.create_avatar(root, picture, force=how["force"])
    done = pipeline.make_avatar(avatar, picture, **how)
    avatar = Avatar(root)
    last = pipeline.STEPS[pipeline.NAMES.index(done[-1].name)].path(avatar)
    sheet = last / layout.SHEET
    shown = sheet if sheet.is_file() else last
    _summary(report, avatar, done, shown, time.perf_counter() - started)
    result.paths.append(shown)
    result.avatars[str(root)] = {d.name: {"what": d.what, "seconds": round(d.seconds, 2)} for d in done}


def _summary(report: Report, avatar: Avatar, done: list[Done], shown: Path, seconds: float) -> None:
    """A table on stderr: stage, what became of it, seconds; then where to look."""
    if report.quiet:
        return
    from rich.console import Console
    from rich.table import Table

    report.note(str(avatar.root))
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    table.add_column("")
    table.add_column("seconds", justify="right")
    words = {"made": "made", "fresh": "fresh, kept", "edited": "edited by hand, kept"}
    for one in done:
        table.add_row(one.name, words[one.what], f"{one.seconds:.1f}" if one.what == "made" else "–")
    table.add_row("total", "", f"{seconds:.1f}")
    Console(stderr=True).print(table)
    metrics = _self_check(avatar)
    if metrics:
        report.note(f"self-check: {metrics}")
    report.note(f"look at {shown}")


def _self_check(avatar: Avatar) -> str:
    folder = avatar.renders / layout.TURNTABLE
    try:
        metrics = freshness.read_stage(folder).get("metrics", {})
    except OmegaError:
        return ""
    if metrics.get("psnr_head") is None:
        return ""
    head, face = metrics["psnr_head"], metrics["psnr_face"]
    return f"the photo's own view again at {head:.1f} dB over the head, {face:.1f} dB over the face"
