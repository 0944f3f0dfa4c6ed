"""How the benchmarks measure, and the table that they print."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

Call = Callable[[], object]

_SPENT_S = 1.2  # of each way of a case; slower ones get at least _LEAST_ROUNDS
_LEAST_ROUNDS, _MOST_ROUNDS, _CALLS_A_ROUND = 3, 60, 5
_AHEAD_CYCLES = 2_000_000  # a GPU waits so long (1 ms) before each measurement, while the calls are queued


@dataclass(frozen=True)
class Case:
    """One line of the table before it is measured: calls over several input sets, taken in turn.

    ours and other do the same work; other (named by `way`) may be empty. bytes: what the work must read
    and write at least. note: said at the end of the line.
    """

    op: str
    shape: str
    ours: Sequence[Call]
    other: Sequence[Call] = ()
    way: str = ""
    bytes: int = 0
    multiple_of: str = ""


@dataclass(frozen=True)
class Row:
    """One measured line: medians in ms; ratio is other / ours; floor_ms the bytes at copy bandwidth."""

    op: str
    shape: str
    ours_ms: float
    way: str = ""
    other_ms: float | None = None
    ratio: float | None = None
    floor_ms: float | None = None
    over_floor: float | None = None
    note: str = ""

    def with_note(self, note: str) -> Row:
        return replace(self, note=note)


class Clock:
    """Medians of interleaved calls on one device.

    A GPU is timed by its own events, with the calls queued ahead, so that a kernel is measured and not
    the launch; work that waits for the host in between shows that wait.
    """

    def __init__(self, device: str) -> None:
        self.cuda = torch.device(device).type == "cuda"
        self.last: Row | None = None
        self.bandwidth = self._copy_bandwidth() if self.cuda else None
        """bytes a second, read and written, of the longest copies; None on a CPU."""

    def measure(self, ways: Sequence[Sequence[Call]]) -> list[float]:
        """Median time of each way in ms; a way is the same call on one or several input sets."""
        calls, costs = [0] * len(ways), []

        def once(way: int) -> float:
            calls[way] += 1
            return self._time(ways[way][calls[way] % len(ways[way])])

        for way, sets in enumerate(ways):  # every input set once: compiles, allocates, warms up
            costs.append(min([once(way) for _ in range(max(2, len(sets)))]))
        slowest = max(costs)
        per_round = [max(1, min(_CALLS_A_ROUND, int(slowest / cost))) for cost in costs]
        rounds = max(_LEAST_ROUNDS, min(_MOST_ROUNDS, int(1e3 * _SPENT_S / slowest)))
        found: list[list[float]] = [[] for _ in ways]
        for _ in range(rounds):
            for way, count in enumerate(per_round):
                found[way] += [once(way) for _ in range(count)]
        return [statistics.median(times) for times in found]

    def row(self, case: Case) -> Row:
        """One case, measured."""
        times = self.measure([case.ours, case.other] if case.other else [case.ours])
        row = Row(case.op, case.shape, times[0])
        if case.other:
            row = replace(row, way=case.way, other_ms=times[1], ratio=times[1] / times[0])
        if self.bandwidth is not None and case.bytes:
            floor = 1e3 * case.bytes / self.bandwidth
            row = replace(row, floor_ms=floor, over_floor=times[0] / floor)
        if case.multiple_of and self.last is not None:
            row = replace(row, note=f"{row.ours_ms / self.last.ours_ms:.2f} × {case.multiple_of}")
        self.last = row
        return row

    def _time(self, call: Call) -> float:
        if not self.cuda:
            start = time.perf_counter()
            call()
            return 1e3 * (time.perf_counter() - start)
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda._sleep(_AHEAD_CYCLES)
        begin.record()
        call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end)

    def _copy_bandwidth(self) -> float:
        source = torch.empty(1 << 28, dtype=torch.float32, device="cuda")  # 1 GiB
        target = torch.empty_like(source)
        median_ms = self.measure([[lambda: target.copy_(source)]])[0]
        return 2 * source.numel() * source.element_size() / (median_ms / 1e3)


def input_sets(device: str, set_bytes: int) -> int:
    """How many sets of inputs to take in turn: on a GPU enough that none is still in the L2 cache."""
    if torch.device(device).type != "cuda":
        return 1
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    return 1 if set_bytes > 1.5 * cache else min(8, 2 + 2 * cache // max(set_bytes, 1))


def machine(device: str) -> dict[str, str | int | float]:
    """What the figures were taken on."""
    found: dict[str, str | int | float] = {
        "device": device,
        "name": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    if torch.device(device).type == "cuda":
        found["name"] = torch.cuda.get_device_name()
    with contextlib.suppress(OSError):  # the other work on this machine, which slows ours
        found["load"] = round(os.getloadavg()[0], 2)
    return found


def processor() -> str:
    """The processor's own name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


HEADINGS = ("op", "shape", "ours ms", "the other way", "ms", "ratio", "floor ms", "ours/floor", "")


def table(rows: Iterable[Row]) -> str:
    """Aligned columns that are a Markdown table too; columns that nobody fills are left out."""
    lines = [HEADINGS, *(_cells(row) for row in rows)]
    filled = [k for k in range(len(HEADINGS)) if k < 3 or any(line[k] for line in lines[1:])]
    lines = [[line[k] for k in filled] for line in lines]
    widths = [max(len(line[k]) for line in lines) for k in range(len(filled))]
    texts = filled.index(0), filled.index(1), *(filled.index(k) for k in (3, 8) if k in filled)

    def laid(line: Sequence[str]) -> str:
        cells = [c.ljust(w) if k in texts else c.rjust(w) for k, (c, w) in enumerate(zip(line, widths))]
        return f"| {' | '.join(cells)} |"

    rule = ["-" * w if k in texts else "-" * (w - 1) + ":" for k, w in enumerate(widths)]
    return "\n".join([laid(lines[0]), laid(rule), *map(laid, lines[1:])])


def _cells(row: Row) -> tuple[str, ...]:
    def number(value: float | None, times: bool = False) -> str:
        if value is None:
            return ""
        return (
            f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3}f}" + "×" * times
        )

    return (
        row.op, row.shape, number(row.ours_ms), row.way, number(row.other_ms), number(row.ratio, True),
        number(row.floor_ms), number(row.over_floor, True), row.note,
    )  # fmt: skip


def write_json(path: Path, on: dict[str, str | int | float], rows: Iterable[Row]) -> None:
    """The machine and the rows, full precision."""
    path.write_text(json.dumps({"machine": on, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
