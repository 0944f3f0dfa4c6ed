"""Weights are records: which file, from where, under which licence, with which digest.

`resolve(name)` gives a path; third-party files are fetched once from pinned packages into the user's
cache and everything runs offline afterwards. Imports nothing heavy and reads no file at import.

Search order: $OMEGA_WEIGHTS (folders, separated like PATH), this package, the cache
($OMEGA_CACHE/weights, else $XDG_CACHE_HOME/omega/weights, else ~/.cache/omega/weights).
OMEGA_OFFLINE=1 forbids fetching.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from omega_cli.errors import OmegaError

Kind = Literal["wheel", "sdist", "packaged", "user"]


@dataclass(frozen=True)
class Entry:
    """One line of registry.json. `sha256` and `bytes` are empty where the file is the user's."""

    name: str
    role: str
    used_by: str
    file: str
    licence: str
    origin: str
    source: dict[str, Any]
    sha256: str = ""
    bytes: int = 0
    default: bool = False

    @property
    def kind(self) -> Kind:
        return self.source["kind"]

    @property
    def member(self) -> tuple[int, str]:
        """Bytes and sha256 of the file inside its package; another file than ours where it is converted."""
        return self.source.get("member_bytes", self.bytes), self.source.get("member_sha256", self.sha256)

    @property
    def fetchable(self) -> bool:
        return self.kind in ("wheel", "sdist")


@functools.cache
def registry() -> dict[str, Entry]:
    """Every known file by name."""
    text = (resources.files(__name__) / "registry.json").read_text(encoding="utf-8")
    return {name: Entry(name=name, **entry) for name, entry in json.loads(text)["weights"].items()}


def entry(name: str) -> Entry:
    """The record of `name`. Raises OmegaError that lists the known names."""
    try:
        return registry()[name]
    except KeyError:
        known = ", ".join(sorted(registry()))
        raise OmegaError(f"There are no weights called {name!r}.", f"Known are: {known}.") from None


def cache_folder() -> Path:
    """The user's folder for fetched and imported files (it need not exist)."""
    if own := os.environ.get("OMEGA_CACHE"):
        return Path(own).expanduser() / "weights"
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "omega" / "weights"


def search_folders() -> list[Path]:
    """Where `find` looks, in order."""
    given = [Path(p).expanduser() for p in os.environ.get("OMEGA_WEIGHTS", "").split(os.pathsep) if p]
    return [*given, Path(str(resources.files(__name__))), cache_folder()]


def find(name: str) -> Path | None:
    """The file of `name` if it is somewhere on this machine; never asks the network."""
    file = entry(name).file
    return next((p for folder in search_folders() if (p := folder / file).is_file()), None)


def resolve(name: str, report: Any = None) -> Path:
    """The file of `name`, fetched on first use where that is possible.

    Raises OmegaError that names the file and says how to get it when it is missing and cannot be
    fetched, or when its size is not the registry's.
    """
    record = entry(name)
    path = find(name)
    if path is None:
        if not record.fetchable:
            what = f"{record.role}, used by {record.used_by}"
            raise OmegaError(f"{record.file} is missing ({what}).", how_to_get(record))
        from omega_cli.weights import fetching

        return fetching.fetch(name, report)
    if record.bytes and path.stat().st_size != record.bytes:
        raise OmegaError(
            f"{path} is damaged: {path.stat().st_size} bytes, {record.bytes} expected.",
            f"Run `omega weights fetch {name} --force` to replace it." if record.fetchable else "",
        )
    return path


def fetch(name: str, report: Any = None, *, force: bool = False) -> Path:
    """Fetch one file into the cache now; see `omega_cli.weights.fetching`."""
    from omega_cli.weights import fetching

    return fetching.fetch(name, report, force=force)


def problem(name: str, *, thorough: bool = False) -> str:
    """What is wrong with the file of `name` that is here: '' or a few words. `thorough` reads it all."""
    record, path = entry(name), find(name)
    if path is None:
        return "missing"
    size = path.stat().st_size
    if record.bytes and size != record.bytes:
        return f"damaged: {size} bytes, {record.bytes} expected"
    if thorough and record.sha256 and sha256_of(path) != record.sha256:
        return "damaged or another file: its sha256 is not the registry's"
    return ""


def how_to_get(record: Entry) -> str:
    """What a person does to get the file."""
    if record.kind == "packaged":
        return "It comes with the project: install it again from a complete checkout."
    if record.kind == "user":
        return f"{record.origin}. Licence: {record.licence}."
    source = record.source
    if "convert" in source:
        return (
            f"With a network: `omega weights fetch {record.name}`. Without one: fetch it on another machine "
            f"and put its {record.file} here as {cache_folder() / record.file}."
        )
    return (
        f"With a network: `omega weights fetch {record.name}`. Without one: on another machine get "
        f"{source['package']}=={source['version']} from the package index, take {source['member']} out of "
        f"it, and put it here as {cache_folder() / record.file}."
    )


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@functools.lru_cache(maxsize=32)
def _sha256_cached(path: Path, size: int, modified: int) -> str:
    return sha256_of(path)


def digest(name: str) -> str | None:
    """'sha256:…' of the file that `name` means now, None where the name or the file is not known.

    A network of the user's own is known by its path.
    """
    record = registry().get(name)
    if record is not None and record.sha256:
        return f"sha256:{record.sha256}"
    path = find(name) if record is not None else Path(name)
    if path is None or not path.is_file():
        return None
    stat = path.stat()
    return f"sha256:{_sha256_cached(path, stat.st_size, stat.st_mtime_ns)}"
