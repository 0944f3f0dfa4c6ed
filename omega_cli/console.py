"""What a person sees while omega works: everything here goes to stderr."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any


class Task:
    """One running progress bar; `advance` may be called from the loop that does the work."""

    def __init__(self, report: Report, label: str, total: int | None) -> None:
        self._report, self._handle = report, None
        self.label, self.total, self.done = label, total, 0
        bars = report._bars()
        if bars is not None:
            self._handle = bars.add_task(label, total=total)

    def advance(self, n: int = 1) -> None:
        """`n` more of `total` are done."""
        self.done += n
        if self._handle is not None and self._report._progress is not None:
            self._report._progress.advance(self._handle, n)

    def close(self) -> None:
        if self._handle is not None and self._report._progress is not None:
            self._report._progress.remove_task(self._handle)


class Report:
    """Progress, notes and warnings. On a terminal: live bars; elsewhere: one line a stage.

    `warnings` collects what `warn` was told, for the record of the stage.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self.quiet, self.verbose = quiet, verbose
        self.warnings: list[str] = []
        self._progress: Any = None
        self._open_tasks = 0
        self._live = not quiet and sys.stderr.isatty()

    @contextlib.contextmanager
    def progress(self, label: str, total: int | None = None) -> Iterator[Task]:
        """A bar for `total` steps (None: a spinner) that goes away when the block ends."""
        self._open_tasks += 1
        task = Task(self, label, total)
        try:
            yield task
        finally:
            task.close()
            self._open_tasks -= 1
            if self._open_tasks == 0 and self._progress is not None:
                self._progress.stop()
                self._progress = None

    def stage_done(self, stage: str, summary: str, folder: str, seconds: float) -> None:
        """The one line that a finished stage leaves behind."""
        parts = [f"{stage:<12}", summary, f"→ {folder}/" if folder else "", f"{seconds:.1f} s"]
        self.note("  ".join(part for part in parts if part))

    def note(self, text: str) -> None:
        """Something worth knowing."""
        if not self.quiet:
            self._line(text)

    def detail(self, text: str) -> None:
        """Something worth knowing with -v."""
        if self.verbose:
            self._line(text)

    def warn(self, text: str) -> None:
        """Something the user may have to act on; shown even with --quiet, and kept in the record."""
        if text not in self.warnings:
            self.warnings.append(text)
            self._line(f"Warning: {text}")

    def _line(self, text: str) -> None:
        if self._progress is not None:
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def _bars(self) -> Any:
        if not self._live:
            return None
        if self._progress is None:
            # rich takes a tenth of a second to import: only where a bar is really drawn.
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            label = TextColumn("{task.description}")
            columns = (label, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
            self._progress.start()
        return self._progress


class NullReport(Report):
    """Says nothing and draws nothing; still collects warnings. For tests and library use."""

    def __init__(self) -> None:
        super().__init__(quiet=True)

    def _line(self, text: str) -> None:
        pass
