"""What people see: live bars on a terminal, one line a stage elsewhere, warnings always."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

from omega_cli.console import NullReport, Report

WORK = """
import sys, time
from omega_cli.console import Report
report = Report(quiet="-q" in sys.argv, verbose="-v" in sys.argv)
with report.progress("views", 3) as task:
    for _ in range(3):
        task.advance()
        time.sleep(0.15)
    report.note("half way [not markup]")
report.detail("only with -v")
report.warn("glasses")
report.warn("glasses")
report.stage_done("splat-uv", "6 views", "uv", 3.14)
print("result")
"""


def test_off_a_terminal_one_line_a_stage() -> None:
    done = subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True, check=True)
    assert done.stdout == "result\n"
    assert done.stderr.splitlines() == [
        "half way [not markup]", "Warning: glasses", "splat-uv      6 views  → uv/  3.1 s",
    ]  # fmt: skip


def test_quiet_and_verbose() -> None:
    quiet = subprocess.run([sys.executable, "-c", WORK, "-q"], capture_output=True, text=True, check=True)
    assert quiet.stderr == "Warning: glasses\n"
    loud = subprocess.run([sys.executable, "-c", WORK, "-v"], capture_output=True, text=True, check=True)
    assert "only with -v" in loud.stderr


def on_terminal(**environment: str) -> str:
    master, slave = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **environment}
    command = [sys.executable, "-c", WORK]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=slave, env=env) as child:
        os.close(slave)
        seen = b""
        while True:
            try:
                part = os.read(master, 4096)
            except OSError:
                break
            if not part:
                break
            seen += part
        assert child.wait(20) == 0
    os.close(master)
    return seen.decode()


def test_on_a_terminal_bars_come_and_go() -> None:
    text = on_terminal()
    assert "views" in text and "━" in text and "half way [not markup]" in text
    assert text.rstrip().splitlines()[-1].strip().endswith("3.1 s")
    assert "\x1b[2K" in text, "the bar was cleared"


def test_no_color_is_obeyed() -> None:
    environment = {"NO_COLOR": "1"}
    assert "\x1b[3" not in on_terminal(**environment)


def test_warnings_are_collected_once() -> None:
    report = NullReport()
    report.warn("a")
    report.warn("b")
    report.warn("a")
    assert report.warnings == ["a", "b"]


def test_bars_may_be_nested() -> None:
    report = Report(quiet=True)
    with report.progress("outer", 2) as outer:
        for _ in range(2):
            with report.progress("inner", 3) as inner:
                inner.advance(3)
            outer.advance()
    assert (outer.done, inner.done) == (2, 3)
