"""Whole or not at all: how a result folder comes to be, whatever kills the process.

A folder `uv/` is written as `.uv.writing-PID` and renamed when complete; an older `uv/` waits as
`.uv.old-PID` between the two renames. The writer holds an flock on its scratch folder, which the
kernel drops when the process dies, so the next run can tell leftovers from a run that is alive. A name
with `.old-` is always a complete folder: it becomes `.writing-` before it is deleted.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from omega_cli.errors import OmegaError

_WRITING, _OLD = "writing", "old"


def scratch_name(folder: Path, what: str = _WRITING) -> Path:
    """`.uv.writing-PID` beside `uv`."""
    return folder.with_name(f".{folder.name}.{what}-{os.getpid()}")


def is_leftover_name(name: str) -> bool:
    """True for names that only this module makes."""
    return name.startswith(".") and any(f".{what}-" in name for what in (_WRITING, _OLD))


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """Yield a scratch folder; it becomes `folder` only if the block succeeds.

    Missing parents are made, and taken away again if the block fails. Raises OmegaError when another
    process is writing the same folder.
    """
    made = _make_parents(folder.parent)
    try:
        with _locked(folder.parent):
            recover(folder)
            _refuse_second_writer(folder)
            scratch = scratch_name(folder)
            scratch.mkdir()
            lock = _try_lock(scratch)
        try:
            yield scratch
            sync_tree(scratch)
            with _locked(folder.parent):
                trash = _swap(scratch, folder)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        finally:
            if lock is not None:
                os.close(lock)
        if trash is not None:
            shutil.rmtree(trash, ignore_errors=True)
    except BaseException:
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise


def recover(folder: Path) -> None:
    """Undo what a killed run left beside `folder`: an old folder comes back, scratch goes."""
    if not folder.parent.is_dir():
        return
    for old in sorted(folder.parent.glob(f".{folder.name}.{_OLD}-*")):
        if not folder.exists():
            old.rename(folder)
        elif not _is_alive(old):
            _discard(old)
    for scratch in folder.parent.glob(f".{folder.name}.{_WRITING}-*"):
        _sweep(scratch)


def recover_all(parent: Path) -> None:
    """`recover` for every folder that a killed run left something beside in `parent`."""
    if not parent.is_dir():
        return
    with _locked(parent):
        for leftover in list(parent.iterdir()):
            if is_leftover_name(leftover.name):
                what = _OLD if f".{_OLD}-" in leftover.name else _WRITING
                recover(parent / leftover.name[1:].rsplit(f".{what}-", 1)[0])


@contextlib.contextmanager
def writing_file(path: Path) -> Iterator[Path]:
    """Yield a scratch path beside `path` (same suffix); it becomes `path` only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{path.stem}.{_WRITING}-*{path.suffix}"):
        _sweep(leftover)
    scratch = path.with_name(f".{path.stem}.{_WRITING}-{os.getpid()}{path.suffix}")
    scratch.touch()
    lock = _try_lock(scratch)
    try:
        yield scratch
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
        if lock is not None:
            os.close(lock)


def sync_tree(folder: Path) -> None:
    """Ask the disk to keep every file of `folder`, so that a rename never outlives its content."""
    for path in (*folder.rglob("*"), folder):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            continue
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _swap(scratch: Path, folder: Path) -> Path | None:
    """Put `scratch` in the place of `folder`; returns what is left to delete."""
    if not folder.exists():
        scratch.rename(folder)
        return None
    old = scratch_name(folder, _OLD)
    folder.rename(old)
    try:
        scratch.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    old.rename(scratch)
    return scratch


def _discard(folder: Path) -> None:
    trash = folder.with_name(folder.name.replace(f".{_OLD}-", f".{_WRITING}-"))
    shutil.rmtree(trash, ignore_errors=True)
    folder.rename(trash)
    shutil.rmtree(trash, ignore_errors=True)


def _make_parents(folder: Path) -> list[Path]:
    """Make `folder`; returns the folders that were not there, innermost first."""
    made = []
    for parent in (folder, *folder.parents):
        if parent.exists():
            break
        made.append(parent)
    if not made and not folder.is_dir():
        raise OmegaError(f"{folder} is a file, but a folder is to be written there.")
    folder.mkdir(parents=True, exist_ok=True)
    return made


def _refuse_second_writer(folder: Path) -> None:
    for scratch in folder.parent.glob(f".{folder.name}.{_WRITING}-*"):
        raise OmegaError(
            f"Another omega process is writing {folder}/ (its files are in {scratch.name}/).",
            "Wait for it to end, or stop it and run this again.",
        )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's own flock for a moment (no lock file is left behind)."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems have no locks: then two runs at once are the user's affair.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _try_lock(folder: Path) -> int | None:
    """An open handle that holds the folder's lock, or None when another process holds it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _sweep(scratch: Path) -> None:
    """Remove a scratch file or folder whose process is gone."""
    if _is_alive(scratch):
        return
    if scratch.is_dir():
        shutil.rmtree(scratch, ignore_errors=True)
    else:
        scratch.unlink(missing_ok=True)


def _is_alive(scratch: Path) -> bool:
    """True when the process that made this scratch file or folder still runs."""
    try:
        handle = _try_lock(scratch)
    except FileNotFoundError:
        return False
    if handle is None:
        return True
    os.close(handle)
    return False
