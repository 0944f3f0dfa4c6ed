"""The command line as a user meets it: instant help, short errors, exit codes, clean stdout."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import click
import pytest
from click.testing import CliRunner

import omega_cli
from omega_cli.cli import COMMANDS, SPINS, LazyGroup, cli, explain, main
from omega_cli.errors import OmegaError

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "help"
WEIGHTS = ("list", "path", "fetch", "verify", "import")
NAMES = [(), *((name,) for name in COMMANDS), *(("weights", name) for name in WEIGHTS)]

INTERRUPTED = "Interrupted; what was finished is kept, run the same command to go on."

NO_TORCH = """
import sys
from omega_cli.cli import cli
try:
    cli(sys.argv[1:], prog_name="omega")
except SystemExit as end:
    heavy = {"torch", "mediapipe", "cv2", "scipy", "rich", "av"} & set(sys.modules)
    print("heavy:", *sorted(heavy), file=sys.stderr)
    sys.exit(end.code)
"""


def test_help_is_instant() -> None:
    """Processor time, best of five: it is the wall time of an idle machine, and this one may be busy."""
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "omega_cli", "--help"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.2, times


@pytest.mark.parametrize("path", NAMES, ids=lambda p: " ".join(p) or "omega")
def test_help_loads_nothing_heavy_and_is_reviewed(path: tuple[str, ...], update_golden: bool) -> None:
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-c", NO_TORCH, *path, "--help"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "heavy:"
    golden = GOLDEN / f"{'-'.join(path) or 'omega'}.txt"
    if update_golden:
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(done.stdout)
    assert golden.is_file(), "new command: run pytest with --update-golden and read the file"
    # Versions of click wrap lines differently; the words are what is reviewed.
    assert done.stdout.split() == golden.read_text().split()


def test_the_table_and_the_commands_agree() -> None:
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None and command.name == name and command.help
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{name} {parameter.opts[0]} has no help text"


def group_that(action) -> LazyGroup:
    """The real group around one command that does `action`."""

    @click.command("act")
    @click.option("-v", "verbose", is_flag=True)
    @click.pass_context
    def act(ctx: click.Context, verbose: bool) -> None:
        ctx.meta["omega.verbose"] = verbose
        action()

    group = LazyGroup("omega", table={"act": ("nowhere:act", "Acts.")})
    group.get_command = lambda ctx, name: act if name == "act" else None  # type: ignore[method-assign]
    return group


def raising(error: BaseException):
    def action() -> None:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OmegaError("No face.", "Try another."), 1, "Error: No face.\n  Try another.\n"),
        (OmegaError("No face."), 1, "Error: No face.\n"),
        (KeyboardInterrupt(), 130, f"{INTERRUPTED}\n"),
    ],
)
def test_errors_are_short(error: BaseException, code: int, said: str) -> None:
    result = CliRunner().invoke(group_that(raising(error)), ["act"])
    assert (result.exit_code, result.stderr, result.stdout) == (code, said, "")


def test_real_system_errors_have_names(tmp_path: Path) -> None:
    def full() -> None:
        Path("/dev/full").write_bytes(b"x" * 10)

    result = CliRunner().invoke(group_that(full), ["act"])
    assert result.exit_code == 1 and result.stderr.startswith("Error: The disk is full")
    message, hint = explain(PermissionError(13, "Permission denied", str(tmp_path)))
    assert message == f"No permission: {tmp_path}." and hint


def test_the_unexpected_is_one_line_and_with_v_a_traceback() -> None:
    group = group_that(raising(RuntimeError("wheels\ncame off")))
    short = CliRunner().invoke(group, ["act"])
    assert short.exit_code == 1 and "Traceback" not in short.output
    assert short.stderr.splitlines()[0] == "Error: Unexpected RuntimeError: wheels came off."
    assert "-v" in short.stderr
    long = CliRunner().invoke(group, ["act", "-v"])
    assert long.exit_code == 1 and "Traceback" in long.stderr and "in action" in long.stderr


def test_usage_errors_exit_2(omega) -> None:
    assert omega("frobnicate").returncode == 2
    assert omega("inspect").returncode == 2
    assert omega("--version").stdout == f"omega, version {omega_cli.__version__}\n"


def test_bad_places_are_told_apart(omega, tmp_path: Path) -> None:
    cases = {tmp_path / "none": "There is no avatar folder", tmp_path: "is not an avatar"}
    for place, said in cases.items():
        done = omega("inspect", place)
        assert (done.returncode, done.stdout) == (1, "") and said in done.stderr
        assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 2


SLEEPER = """
import sys, time
from pathlib import Path
from omega_cli import cli
from omega_cli.avatar import folders
import click
@click.command("sleep")
def sleep():
    with folders.writing(Path(sys.argv[2])) as scratch:
        (scratch / "half").write_text("x")
        print("ready", flush=True)
        time.sleep(60)
cli.cli.get_command = lambda ctx, name: sleep
sys.argv[1:2] = ["sleep"]
cli.cli.invoke_without_command = False
cli.signal.signal(cli.signal.SIGTERM, cli._terminate)
# a shell's background job, and what it starts, ignores Ctrl-C: the test is to hold there as well
cli.signal.signal(cli.signal.SIGINT, cli.signal.default_int_handler)
cli.cli(["sleep"], prog_name="omega")
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_cleans_up(tmp_path: Path, number: int, code: int) -> None:
    command = [sys.executable, "-c", SLEEPER, "x", str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stderr is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(number)
        assert child.wait(20) == code
        text = child.stderr.read()
    assert "Traceback" not in text and len(text.splitlines()) <= 1
    assert list(tmp_path.iterdir()) == []


def test_inspect_tells_what_happened(omega, tmp_path: Path) -> None:
    """Fresh, edited, stale down the line, missing: text and JSON say the same."""
    from omega_cli.avatar import record

    photo = tmp_path / "face.jpg"
    photo.write_bytes(b"photo")
    avatar = record.create_avatar(tmp_path / "avatar", photo)
    chain = [("track", avatar.source, [photo]), ("mv-diffuse", avatar.views, [avatar.source]),
             ("deform-flame", avatar.mesh, [avatar.views])]  # fmt: skip
    for stage, folder, inputs in chain:
        with record.writing_stage(avatar, stage=stage, folder=folder, config={}, inputs=inputs) as out:
            (out.path / "file").write_text(stage)

    def states() -> dict[str, str]:
        folders = json.loads(omega("inspect", avatar.root, "--json").stdout)["folders"]
        return {line["folder"]: line["state"] for line in folders}

    assert states() == {"source": "fresh", "views": "fresh", "mesh": "fresh", "uv": "missing",
                        "gaussians": "missing"}  # fmt: skip
    (avatar.source / "file").write_text("by hand")
    assert states() == {"source": "edited", "views": "stale", "mesh": "stale", "uv": "missing",
                        "gaussians": "missing"}  # fmt: skip
    done = omega("inspect", avatar.root)
    assert done.returncode == 0
    for said in ("file was changed by hand", "source/file changed", "views/ is stale", "uv/ is missing"):
        assert said in done.stdout
    assert f"omega mv-diffuse {avatar.root}" in done.stdout


def test_doctor_answers_in_both_languages(omega) -> None:
    done = omega("doctor", "--json")
    document = json.loads(done.stdout)
    names = {finding["name"] for finding in document["findings"]}
    assert {"python", "torch", "libGL.so.1", "C++ compiler", "CPU kernels", "CUDA", "gsplat", "pytorch3d",
            "weights u2netp", "weights open_head"} <= names  # fmt: skip
    assert done.returncode == (0 if document["healthy"] else 1)
    for finding in document["findings"]:
        assert finding["level"] != "broken" or finding["mend"], finding


def test_quiet_and_piped_output_is_clean(omega) -> None:
    done = omega("weights", "path", "open_head", "-q")
    assert done.returncode == 0 and done.stderr == ""
    assert Path(done.stdout.strip()).is_file() and len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, None)],
)
def test_waiting_threads_sleep_unless_the_user_says_otherwise(monkeypatch, given, expected):
    monkeypatch.setattr("omega_cli.cli.cli", lambda prog_name: None)
    monkeypatch.setattr("signal.signal", lambda number, action: None)
    with mock.patch.dict(os.environ, given, clear=True):
        main()
        assert os.environ.get("GOMP_SPINCOUNT") == expected
