"""Digests of files and settings: what a record is made of. Imports no torch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from omega_cli.avatar import layout
from omega_cli.avatar.layout import Avatar
from omega_cli.errors import OmegaError

EXTERNAL = "external:"
"""Prefix of an input that lies outside the avatar folder; only its name is kept."""

_IGNORED = {"Thumbs.db", "desktop.ini"}


def digest(path: Path) -> str:
    """'sha256:…' of a file."""
    with path.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


def stage_key(
    stage: str, params: Mapping[str, Any], inputs: Mapping[str, str], weights: Mapping[str, str], seed: int
) -> str:
    """Digest of all that decides a result: stage, schema, params, inputs, weights, seed."""
    said = [stage, layout.STAGE_SCHEMA, dict(params), dict(inputs), dict(weights), seed]
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def params_of(config: Any) -> dict[str, Any]:
    """A config dataclass as it stands in stage.json (tuples become lists, paths text)."""
    given = dataclasses.asdict(config) if dataclasses.is_dataclass(config) else dict(config or {})  # type: ignore[arg-type]
    return json.loads(json.dumps(given, default=str))


def input_digests(avatar: Avatar, inputs: Iterable[Path]) -> dict[str, str]:
    digests = {}
    for given in inputs:
        for path in sorted(files_below(given)) if given.is_dir() else [given]:
            if path.name == layout.STAGE:
                continue  # times and versions inside it must not make anything stale
            needs(path)
            digests[_input_name(avatar, path)] = digest(path)
    return digests


def _input_name(avatar: Avatar, path: Path) -> str:
    try:
        return path.resolve().relative_to(avatar.root.resolve()).as_posix()
    except ValueError:
        return EXTERNAL + path.name


def files_below(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and path.name not in _IGNORED:
            yield path


def digests_below(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): digest(p) for p in sorted(files_below(folder))}


def prefixed(sha: str) -> str:
    return sha if sha.startswith("sha256:") else f"sha256:{sha}"


def rerun_hint(path: Path) -> str:
    command = layout.command_for(path)
    return f"Run `{command}` to make it again." if command else ""


def shown(avatar: Avatar, folder: Path) -> str:
    try:
        return folder.relative_to(avatar.root).as_posix()
    except ValueError:
        return str(folder)


def needs(path: Path, command: str = "") -> Path:
    """`path`, which must be there. Raises the error that names the command that makes it."""
    if path.exists():
        return path
    hint = f"Run `{command}`" if command else rerun_hint(path)
    raise OmegaError(f"{path} is missing.", hint if hint.endswith(".") or not hint else hint + ".")
