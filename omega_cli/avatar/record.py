"""Records: avatar.json and stage.json, written with the folders they are about. Imports no torch.

`digest`, `needs`, `read_stage`, `status` and `is_fresh` are here too, so that a stage imports one name.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import omega_cli
from omega_cli.avatar import folders, layout
from omega_cli.avatar.digests import (
    digest,
    digests_below,
    input_digests,
    needs,
    params_of,
    prefixed,
    shown,
    stage_key,
)  # fmt: skip
from omega_cli.avatar.freshness import (
    Status,
    check_schema,
    inputs_of,
    is_fresh,
    load_avatar_document,
    read_avatar,
    read_stage,
    status,
    weights_of,
)  # fmt: skip
from omega_cli.avatar.layout import Avatar
from omega_cli.console import NullReport, Report
from omega_cli.errors import OmegaError

__all__ = [
    "StageWriter", "Status", "check_schema", "create_avatar", "digest", "inputs_of", "is_fresh", "needs",
    "open_avatar", "read_avatar", "read_stage", "status", "weights_of", "writing_stage",
]  # fmt: skip

CONVENTIONS = {
    "axes": "OpenCV: x right, y down, z forward; world = head: y up, face towards +z, metres",
    "viewmat": "world to camera, 4x4",
    "pixel_centres": "+0.5",
    "quats": "wxyz",
    "uv": "[0, 1] from the top left",
    "colour": "sRGB in [0, 1]",
}


@dataclass
class StageWriter:
    """What a stage fills in while its `with writing_stage(...)` block runs."""

    path: Path
    """Scratch folder: write every result below it."""
    summary: str = ""
    """Half a line for the user: "6 views x 4 levels"."""
    metrics: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    inputs: dict[str, str] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)
    report: Report = field(default_factory=NullReport)
    avatar: Avatar | None = None

    def warn(self, text: str) -> None:
        """Tell the user and keep it in stage.json."""
        self.report.warn(text)
        if text not in self.warnings:
            self.warnings.append(text)

    def add_input(self, path: Path) -> None:
        """Record one more file that this stage has read."""
        assert self.avatar is not None
        self.inputs.update(input_digests(self.avatar, [path]))


# --- avatar.json -----------------------------------------------------------------------------------


def create_avatar(root: Path, source: Path, *, force: bool = False) -> Avatar:
    """The avatar of a photo (or clip) at `root`: an empty place, or that same photo's older avatar.

    Writes nothing yet: avatar.json appears with the first stage that succeeds. Raises OmegaError when
    the folder holds something else, or the avatar of another picture (unless `force`).
    """
    root, source = Path(root), Path(source)
    if root.exists() and not root.is_dir():
        raise OmegaError(f"{root} is a file, not an avatar folder.", "Give -o a folder name.")
    if not source.is_file():
        what = "a folder, not an image" if source.is_dir() else "not there"
        raise OmegaError(f"{source} is {what}.", "Give the path of a photo.")
    sha = digest(source)
    document = {
        "schema": layout.AVATAR_SCHEMA,
        "id": sha.removeprefix("sha256:")[:12],
        "source": {"name": source.name, "sha256": sha},
        "conventions": CONVENTIONS,
    }
    avatar = Avatar(root, pending=document)
    if not root.is_dir():
        return avatar
    if not avatar.document.exists():
        strangers = sorted(p.name for p in root.iterdir() if not folders.is_leftover_name(p.name))
        if strangers:
            raise OmegaError(
                f"{root}/ exists and is not an avatar (it holds {_some(strangers)}).",
                "Choose another folder with -o; nothing was written.",
            )
        _recover(avatar)
        return avatar
    known = load_avatar_document(avatar).get("source", {})
    if known.get("sha256") != sha and not force:
        raise OmegaError(
            f"{root}/ is the avatar of another picture ({known.get('name', 'unknown')}).",
            "Choose another folder with -o, or replace it with --force.",
        )
    _recover(avatar)
    return avatar if known.get("sha256") != sha else Avatar(root)


def open_avatar(root: Path) -> Avatar:
    """An avatar folder that exists; mends what a killed run left behind."""
    root = Path(root)
    if not root.exists():
        raise OmegaError(
            f"There is no avatar folder {root}/.", "Make one with `omega generate IMAGE -o AVATAR`."
        )
    avatar = Avatar(root)
    if not avatar.document.is_file():
        raise OmegaError(
            f"{root} is not an avatar: it has no {layout.AVATAR}.",
            "Give the folder that `omega generate IMAGE -o AVATAR` wrote.",
        )
    load_avatar_document(avatar)
    _recover(avatar)
    return avatar


def _recover(avatar: Avatar) -> None:
    for parent in (avatar.root, avatar.renders, avatar.reenact):
        folders.recover_all(parent)


# --- stage.json ------------------------------------------------------------------------------------


@contextlib.contextmanager
def writing_stage(
    avatar: Avatar,
    *,
    stage: str,
    folder: Path,
    config: Any,
    seed: int = 0,
    inputs: Iterable[Path] = (),
    weights: Mapping[str, str] | None = None,
    device: str = "cpu",
    report: Report | None = None,
    force: bool = False,
) -> Iterator[StageWriter]:
    """Write one stage's folder whole or not at all, with its stage.json.

    `inputs` are the files that the stage reads (folders count with all their files); `weights` maps
    registry names to sha256 digests. Raises OmegaError when `folder` was edited by hand (without
    `force`) or is being written by another process; a failing block leaves the old folder as it was.
    """
    report = report or NullReport()
    folders.recover_all(folder.parent)
    if not force:
        _refuse_overwrite(avatar, folder, stage)
    started, clock, warned = time.time(), time.perf_counter(), len(report.warnings)
    with folders.writing(folder) as scratch:
        out = StageWriter(scratch, report=report, avatar=avatar)
        out.inputs = input_digests(avatar, inputs)
        out.weights = {name: prefixed(sha) for name, sha in (weights or {}).items()}
        yield out
        params = params_of(config)
        seconds = round(time.perf_counter() - clock, 3)
        said = report.warnings[warned:]
        document = {
            "schema": layout.STAGE_SCHEMA,
            "stage": stage,
            "key": stage_key(stage, params, out.inputs, out.weights, seed),
            "params": params,
            "seed": seed,
            "inputs": out.inputs,
            "weights": out.weights,
            "outputs": digests_below(scratch),
            "made_by": _made_by(stage, device),
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
            "seconds": seconds,
            "metrics": out.metrics,
            "warnings": out.warnings + [text for text in said if text not in out.warnings],
        }
        _write_json(scratch / layout.STAGE, document)
        if avatar.pending is not None:
            with folders.writing_file(avatar.document) as path:
                _write_json(path, avatar.pending)
    report.stage_done(stage, out.summary, shown(avatar, folder), seconds)


def _refuse_overwrite(avatar: Avatar, folder: Path, stage: str) -> None:
    found = status(avatar, folder)
    name = shown(avatar, folder)
    if found.state == "edited":
        why = f"{_some(list(found.files))} changed" if found.files else f"it has no {layout.STAGE}"
        raise OmegaError(
            f"{name}/ was edited by hand ({why}), so {stage} does not overwrite it.",
            "Add --force to overwrite it, or move the folder away first.",
        )
    if found.state == "newer":
        raise OmegaError(
            f"{name}/ was made by a newer omega, so {stage} does not overwrite it.",
            "Update omega, or add --force to overwrite it.",
        )


def _made_by(stage: str, device: str) -> dict[str, str]:
    by_cli = Path(sys.argv[0]).name in ("omega", "__main__.py")
    command = shlex.join(["omega", *sys.argv[1:]]) if by_cli else f"omega {stage}"
    try:
        torch = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        torch = "none"
    return {"omega": omega_cli.__version__, "torch": torch, "device": device, "command": command}


def _write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _some(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
