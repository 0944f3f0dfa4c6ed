"""What state a folder is in: computed from digests, never remembered. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omega_cli.avatar import layout
from omega_cli.avatar.digests import (
    EXTERNAL,
    digest,
    files_below,
    input_digests,
    params_of,
    prefixed,
    rerun_hint,
    shown,
)  # fmt: skip
from omega_cli.avatar.layout import Avatar
from omega_cli.errors import OmegaError

State = Literal["fresh", "stale", "edited", "missing", "damaged", "newer"]


@dataclass(frozen=True)
class Status:
    """What a folder is, and why. `reasons` are sentences for people, `files` the files they are about."""

    state: State
    reasons: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    stage: str = ""
    seconds: float | None = None

    @property
    def usable(self) -> bool:
        """True when the next stage may read this folder as it is."""
        return self.state in ("fresh", "edited")


def read_avatar(avatar: Avatar) -> dict[str, Any]:
    """avatar.json of a folder, or what it is going to be."""
    return avatar.pending if avatar.pending is not None else load_avatar_document(avatar)


def load_avatar_document(avatar: Avatar) -> dict[str, Any]:
    hint = "Make the avatar again with `omega generate IMAGE -o AVATAR` in a new folder."
    try:
        document = json.loads(avatar.document.read_text())
        schema = document["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise OmegaError(f"{avatar.document} is damaged.", hint) from error
    check_schema(schema, layout.AVATAR_SCHEMA, avatar.document)
    return document


def check_schema(found: Any, known: str, path: Path) -> None:
    """Refuse a document of another kind or of a newer version."""
    kind, number = known.rsplit("/", 1)
    found_kind, _, found_number = str(found).rpartition("/")
    if found_kind != kind or not found_number.isdigit():
        raise OmegaError(f"{path} has the schema {found!r}; {known!r} was expected.")
    if int(found_number) > int(number):
        raise OmegaError(
            f"{path} was made by a newer omega ({found}; this one knows {known}).",
            "Update omega (`pip install -U` from the newer checkout), or make the avatar again here.",
        )


def read_stage(folder: Path) -> dict[str, Any]:
    """stage.json of a folder. Raises OmegaError when missing, damaged or of a newer schema."""
    path = folder / layout.STAGE
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise OmegaError(f"{path} is missing.", rerun_hint(path)) from error
    except (ValueError, OSError) as error:
        raise OmegaError(f"{path} is damaged.", rerun_hint(path)) from error
    if not isinstance(document, dict) or "schema" not in document:
        raise OmegaError(f"{path} is damaged.", rerun_hint(path))
    check_schema(document["schema"], layout.STAGE_SCHEMA, path)
    wanted = {"stage": str, "key": str, "params": dict, "seed": int, "inputs": dict, "outputs": dict}
    wrong = [name for name, kind in wanted.items() if not isinstance(document.get(name), kind)]
    if wrong:
        raise OmegaError(f"{path} is damaged: {', '.join(wrong)} cannot be read.", rerun_hint(path))
    return document


def inputs_of(folder: Path) -> dict[str, str]:
    """What a stage's folder was made of: paths inside the avatar (or whole ones) to digests; nothing where no
    stage made it."""
    try:
        return dict(read_stage(folder)["inputs"])
    except OmegaError:
        return {}


def weights_of(folder: Path) -> dict[str, str]:
    """Digests of the weights that made a folder, by name; none where a person made it."""
    try:
        found = read_stage(folder).get("weights", {})
    except OmegaError:
        return {}
    return dict(found)


def status(
    avatar: Avatar,
    folder: Path,
    *,
    config: Any = None,
    seed: int | None = None,
    inputs: Iterable[Path] | None = None,
    weights: Mapping[str, str] | None = None,
) -> Status:
    """fresh, stale (which input or setting changed), edited (which files), missing, damaged or newer.

    `config`, `seed`, `inputs` and `weights` are what a run would use now; what is not given is taken
    from the record. A folder that a person put there (no stage.json) is "edited".
    """
    if not folder.is_dir() or not any(files_below(folder)):
        return Status("missing", (f"{shown(avatar, folder)}/ is missing",))
    if not (folder / layout.STAGE).exists():
        return Status("edited", (f"{shown(avatar, folder)}/ was put there by hand (no {layout.STAGE})",))
    try:
        document = read_stage(folder)
    except OmegaError as error:
        state: State = "newer" if "newer omega" in error.message else "damaged"
        return Status(state, (error.message,), (layout.STAGE,))
    common = {"stage": document["stage"], "seconds": document.get("seconds")}
    changed, gone = _compare_outputs(folder, document["outputs"])
    if gone:
        return Status("damaged", tuple(f"{name} is missing" for name in gone), tuple(gone), **common)
    if changed:
        reasons = tuple(f"{name} was changed by hand" for name in changed)
        return Status("edited", reasons, tuple(changed), **common)
    reasons = _stale_inputs(avatar, document, inputs) + _stale_weights(document, weights)
    if config is not None:
        reasons += _stale_params(document["params"], params_of(config))
    if seed is not None and seed != document["seed"]:
        reasons.append(f"seed is {seed}, was {document['seed']}")
    return Status("stale" if reasons else "fresh", tuple(reasons), **common)


def is_fresh(avatar: Avatar, folder: Path, **now: Any) -> bool:
    """True when running the stage again with these settings would give the same files."""
    return status(avatar, folder, **now).state == "fresh"


def _compare_outputs(folder: Path, recorded: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Files that differ from the record (or are new), and files that are gone."""
    found = {str(p.relative_to(folder)): p for p in files_below(folder) if p.name != layout.STAGE}
    changed = [name for name, path in found.items() if name not in recorded or digest(path) != recorded[name]]
    return sorted(changed), sorted(set(recorded) - set(found))


def _stale_inputs(avatar: Avatar, document: dict[str, Any], inputs: Iterable[Path] | None) -> list[str]:
    recorded: dict[str, str] = document["inputs"]
    if inputs is not None:
        now = input_digests(avatar, inputs)
        new = [f"{name} is a new input" for name in now if name not in recorded]
        gone = [f"{name} is no input any more" for name in recorded if name not in now]
        return new + gone + [f"{n} changed" for n in now if n in recorded and now[n] != recorded[n]]
    reasons = []
    for name, sha in recorded.items():
        if name.startswith(EXTERNAL):
            # The photo itself need not travel with the avatar: avatar.json knows its digest.
            known = avatar.pending is not None or avatar.document.exists()
            source = read_avatar(avatar).get("source", {}) if known else {}
            if source.get("name") == name.removeprefix(EXTERNAL) and source.get("sha256") != sha:
                reasons.append(f"{source['name']} changed")
        elif not (path := avatar.root / name).is_file():
            reasons.append(f"{name} is missing")
        elif digest(path) != sha:
            reasons.append(f"{name} changed")
    if document["stage"] == "track" and avatar.pending is not None:
        shas = {sha for name, sha in recorded.items() if name.startswith(EXTERNAL)}
        if shas and avatar.pending["source"]["sha256"] not in shas:
            reasons.append("the source picture is another one")
    return list(dict.fromkeys(reasons))


def _stale_weights(document: dict[str, Any], weights: Mapping[str, str] | None) -> list[str]:
    recorded: dict[str, str] = document.get("weights", {})
    if weights is None:
        from omega_cli import weights as registry

        now = {name: sha for name in recorded if (sha := registry.digest(name)) is not None}
    else:
        now = {name: prefixed(sha) for name, sha in weights.items()}
    return [f"the weights {name} changed" for name, sha in now.items() if sha != recorded.get(name)]


def _stale_params(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = sorted(set(recorded) | set(now))
    return [
        f"{name} is {now.get(name, 'gone')}, was {recorded.get(name, 'not there')}"
        for name in names
        if recorded.get(name, ...) != now.get(name, ...)
    ]
