"""Seconds and memory of each part of the work. Memory is the process's own peak, /proc where it is."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import time
from collections.abc import Iterator
from pathlib import Path

from omega_cli.console import NullReport

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_mb() -> float:
    """Largest resident memory since `reset_peak`, or since the process began where that is not known; MB."""
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def reset_peak() -> None:
    """Forget the peak so far (Linux; elsewhere `peak_mb` stays that of the whole run)."""
    with contextlib.suppress(OSError):
        _RESET.write_text("5")


def give_back() -> None:
    """Freed memory back to the system (glibc; elsewhere nothing): from person to person the holes that
    large pictures leave would add up, 0.3 GB after the first."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class Meter(NullReport):
    """Says nothing, and notes seconds and peak memory of each stage that reports itself done, and of each
    block inside `part`. Times of one name add up; the largest memory counts."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = {}
        self.memory_mb: dict[str, float] = {}
        reset_peak()

    def stage_done(self, stage: str, summary: str, folder: str, seconds: float) -> None:
        self._note(stage, seconds)

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What the block takes goes under `name`."""
        reset_peak()
        began = time.perf_counter()
        yield
        self._note(name, time.perf_counter() - began)

    def _note(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self.memory_mb[name] = max(self.memory_mb.get(name, 0.0), peak_mb())
        reset_peak()

    def record(self) -> dict[str, dict[str, float]]:
        """{part: {"seconds", "peak_mb"}}."""
        return {
            name: {"seconds": round(seconds, 3), "peak_mb": round(self.memory_mb[name], 1)}
            for name, seconds in self.seconds.items()
        }
