"""Processes that write training samples into a folder, one file each."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from omega_cli.console import Report


def failure(folder: Path, name: str) -> Path:
    """Where a sample that could not be made says why."""
    return folder / f"failed-{name}.txt"


@contextlib.contextmanager
def forgiven(note: Path) -> Iterator[None]:
    """One impossible person must not stop a training run: the traceback goes into a file."""
    try:
        yield
    except Exception:
        note.write_text(traceback.format_exc())


def write(path: Path, sample: torch.Tensor) -> None:
    """A file that appears whole: readers poll the folder."""
    scratch = path.with_suffix(".writing")
    with scratch.open("wb") as stream:
        np.save(stream, sample.numpy())
    scratch.rename(path)


def start(work: Callable[[Any, int, int], None], config: Any, count: int) -> list:
    """`count` processes that run work(config, number, count), already started. Daemons: they end with the
    caller."""
    context = torch.multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=(config, i, count), daemon=True) for i in range(count)]
    for process in processes:
        process.start()
    return processes


def watched(processes: list, folder: Path, suffix: str, most: int, report: Report) -> Path:
    """Show how many files of that suffix come into the folder, until the processes end."""
    with report.progress("samples", most) as bar:
        done = 0
        while any(process.is_alive() for process in processes):
            time.sleep(1)
            now = sum(1 for _ in folder.glob(f"*.{suffix}"))
            bar.advance(now - done)
            done = now
    return folder


def alone() -> None:
    """One thread for this process: there are as many of its like as there are cores."""
    import os

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    import cv2

    cv2.setNumThreads(1)
