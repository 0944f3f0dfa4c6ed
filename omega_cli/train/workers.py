"""Processes that write training samples into a folder, one file each."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch


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


def alone() -> None:
    """One thread for this process: there are as many of its like as there are cores."""
    import os

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    import cv2

    cv2.setNumThreads(1)
