"""The command line: one table of commands, loaded when called, and the one place that prints errors."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import traceback
from pathlib import Path
from typing import Any, NoReturn

import click

import omega_cli
from omega_cli.errors import OmegaError

SPINS = "2000"  # as fast as endless spinning on idle cores, twice as fast on busy ones (docs/performance.md)
COMMANDS = {
    "generate": ("omega_cli.generate.command:command", "Make an avatar from a photo: the whole path."),
    "track": ("omega_cli.track.command:command", "Crop, matte, landmarks and head fit of a photo or clip."),
    "mv-diffuse": ("omega_cli.mv_diffuse.command:command", "Six views of the head: colour, normals, masks."),
    "deform-flame": ("omega_cli.deform_flame.command:command", "Bend the head mesh to the six views."),
    "splat-uv": ("omega_cli.splat_uv.command:command", "Splat the views' features into one UV map."),
    "decode": ("omega_cli.decode.command:command", "Turn the UV map into Gaussians bound to the head."),
    "render": ("omega_cli.render.command:command", "Pictures and films of the avatar."),
    "reenact": ("omega_cli.reenact.command:command", "Drive the avatar with a film of a face."),
    "evaluate": ("omega_cli.evaluate.command:command", "Measure the pipeline on a data set."),
    "train": ("omega_cli.train.command:command", "Train the networks on people that the studio makes."),
    "studio": ("omega_cli.data.studio.command:command", "Generated people as multi-view ground truth."),
    "inspect": ("omega_cli.inspect.command:command", "What is fresh, stale, edited or missing, and why."),
    "doctor": ("omega_cli.doctor.command:command", "What runs here, and the commands that mend the rest."),
    "weights": ("omega_cli.weights.command:command", "List, fetch, verify and import weight files."),
}
"""name -> ("module:attribute", one line of help). A command's module loads when it is called."""


class LazyGroup(click.Group):
    """Commands named in a table; `--help` imports none of them. Prints every error in one place."""

    def __init__(self, *args: Any, table: dict[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.table:
            return None
        module, attribute = self.table[cmd_name][0].split(":")
        return getattr(importlib.import_module(module), attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.table.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an exception becomes a short text on stderr and an exit code."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, SystemExit, BrokenPipeError):
            raise  # click's own business: usage errors, exit codes, a reader (`head`) that went away
        except KeyboardInterrupt:
            _fail(ctx, "Interrupted; what was finished is kept, run the same command to go on.", 130)
        except Exception as error:
            message, hint = explain(error)
            if ctx.meta.get("omega.verbose"):
                click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
            _fail(ctx, f"Error: {message}" + "".join(f"\n  {line}" for line in hint.splitlines()), 1)


def explain(error: Exception) -> tuple[str, str]:
    """(what went wrong, what to do) of any exception that reached the top."""
    if isinstance(error, OmegaError):
        return error.message, error.hint
    where = ""
    if isinstance(error, OSError) and error.filename:
        where = f": {Path(str(error.filename))}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"The disk is full{where}.", "Nothing was half-written. Make room and run this again."
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"No permission{where}.", "Choose a place that you may write to, or change its permissions."
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "There is not enough memory.", "Close other programs, or use smaller settings (--help)."
    said = " ".join(str(error).split())[:300]
    kind = type(error).__name__
    return f"Unexpected {kind}: {said}." if said else f"Unexpected {kind}.", (
        "This is a fault of omega. Run again with -v for the details to report."
    )


def _fail(ctx: click.Context, text: str, code: int) -> NoReturn:
    click.echo(text, err=True)
    ctx.exit(code)


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(omega_cli.__version__, prog_name="omega")
def cli() -> None:
    """One portrait in, a 360-degree, animatable 3D Gaussian head avatar out.

    \b
      omega generate face.jpg -o avatar/
      omega reenact avatar/ driver.mp4 -o out.mp4

    Each stage reads and writes folders of the avatar, so any of them can be looked at, changed by hand
    and run again. `omega inspect avatar/` says what is fresh.
    """


def main() -> None:
    """Entry point of `omega`."""
    # A stage that is told to stop (batch systems send SIGTERM) cleans up like one that is interrupted.
    signal.signal(signal.SIGTERM, _terminate)
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        # Read when torch loads. Threads that wait spin a little, not for good: cores may be busy elsewhere.
        os.environ["GOMP_SPINCOUNT"] = SPINS
    cli(prog_name="omega")


def _terminate(number: int, frame: Any) -> NoReturn:
    raise SystemExit(128 + number)
