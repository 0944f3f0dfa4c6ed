"""The state of every folder of an avatar, in the order of the data flow. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omega_cli.avatar import layout, record
from omega_cli.avatar.layout import Avatar
from omega_cli.errors import OmegaError


@dataclass(frozen=True)
class Line:
    """One folder: its state, why, and the command that brings it up to date ('' when none is needed)."""

    folder: str
    stage: str
    state: str
    reasons: tuple[str, ...]
    mend: str
    seconds: float | None

    def as_json(self) -> dict[str, Any]:
        return {
            "folder": self.folder,
            "stage": self.stage,
            "state": self.state,
            "reasons": list(self.reasons),
            "mend": self.mend,
            "seconds": self.seconds,
        }


def survey(avatar: Avatar) -> list[Line]:
    """One line a folder. A folder made from one that is stale, missing or damaged is stale itself."""
    lines: list[Line] = []
    doubtful: dict[str, str] = {}
    for name, path in _folders(avatar):
        status = record.status(avatar, path)
        state, reasons = str(status.state), status.reasons
        if state == "fresh":
            above = {i.split("/")[0] for i in record.read_stage(path)["inputs"]}
            old = [f"{folder}/ is {doubtful[folder]}" for folder in sorted(above & doubtful.keys())]
            if old:
                state, reasons = "stale", tuple(old)
        if state in ("stale", "missing", "damaged"):
            doubtful[name] = state
        stage = status.stage or layout.STAGE_OF_FOLDER[name.split("/")[0]]
        lines.append(Line(name, stage, state, reasons, _mend(state, path), status.seconds))
    return lines


def _folders(avatar: Avatar) -> list[tuple[str, Path]]:
    found = []
    for name in layout.STAGE_OF_FOLDER:
        path = avatar.folder(name)
        if path not in (avatar.renders, avatar.reenact):
            found.append((name, path))
            continue
        inside = sorted(p for p in path.iterdir() if p.is_dir() and p.name[0] != ".") if path.is_dir() else []
        found += [(f"{name}/{p.name}", p) for p in inside]
    return found


def _mend(state: str, path: Path) -> str:
    if state == "newer":
        return "update omega"
    return layout.command_for(path) if state in ("stale", "missing", "damaged") else ""


def picture(avatar: Avatar) -> str:
    """Name of the source picture, as avatar.json has it."""
    try:
        return str(record.read_avatar(avatar)["source"]["name"])
    except (KeyError, TypeError) as error:
        raise OmegaError(f"{avatar.document} is damaged: it names no source.") from error
