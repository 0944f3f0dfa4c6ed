"""Settings to flags: one frozen dataclass field is the setting, the flag, the default and the record.

A command reads, from the outside in::

    @click.command("splat-uv")
    @click.argument("avatar", type=AVATAR)
    @config_options(SplatUVConfig)
    @common_options
    def command(avatar, config, device, seed, report, force):
        \"\"\"Help text.\"\"\"
        from omega_cli.splat_uv import stage          # torch loads here, after the checks
        return stage.run(record.open_avatar(avatar), config, device=device, ...)

`common_options` gives a flag for each of these names that the function's signature asks for:
`device`, `seed`, `force`, `report`; -q, -v and --json are always there. What the function returns (a
path, a list of paths or a dict) goes to stdout: paths one a line, or one JSON object with --json.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import click
from click.core import ParameterSource

from omega_cli.console import Report
from omega_cli.errors import OmegaError

Command = TypeVar("Command", bound=Callable[..., Any])

AVATAR = click.Path(path_type=Path)
"""An avatar folder; `record.open_avatar` says what is wrong with it."""

INPUT_FILE = click.Path(path_type=Path)
"""A file that must be read; its own reader says what is wrong with it."""


def opt(default: Any, help: str) -> Any:
    """A dataclass field with the help text of its flag."""
    return dataclasses.field(default=default, metadata={"help": help})


def _click_type(kind: Any) -> tuple[Any, bool]:
    """The click type of an annotation, and whether the flag may be given several times."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kinds = [k for k in typing.get_args(kind) if k is not type(None)]
        if len(kinds) != 1:
            raise TypeError(f"a flag has one type, got {kind}")
        return _click_type(kinds[0])
    if typing.get_origin(kind) is Literal:
        return click.Choice(typing.get_args(kind)), False
    if typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        if len(kinds) == 2 and kinds[1] is Ellipsis:
            return _click_type(kinds[0])[0], True
        return tuple(_click_type(k)[0] for k in kinds), False
    if kind is Path:
        return click.Path(path_type=Path), False
    return kind, False


def config_options(cls: type) -> Callable[[Command], Command]:
    """One flag per field of a frozen dataclass; the command receives it as `config`.

    Adds `--params FILE`: the "params" (and the seed) of a stage.json are taken wherever the command
    line is silent, so that `--params avatar/uv/stage.json` repeats that run. A ValueError of the
    dataclass's own checks is a usage error (exit 2), raised before torch loads.
    """
    hints, fields = typing.get_type_hints(cls), dataclasses.fields(cls)

    def wrap(function: Command) -> Command:
        @functools.wraps(function)
        def command(**given: Any) -> Any:
            ctx = click.get_current_context()
            recorded = _recorded_params(given.pop("params", None), ctx)
            _refuse_unknown(recorded["params"], {f.name for f in fields}, given)
            values = {}
            for f in fields:
                value = given.pop(f.name)
                if f.name in recorded["params"] and _silent(ctx, f.name):
                    value = _from_json(recorded["params"][f.name])
                values[f.name] = value
            if "seed" in given and recorded["seed"] is not None and _silent(ctx, "seed"):
                given["seed"] = recorded["seed"]
            try:
                config = cls(**values)
            except ValueError as error:
                raise click.UsageError(str(error)) from error
            return function(config=config, **given)

        wrapped: Any = command
        for f in reversed(fields):
            flag = "--" + f.name.replace("_", "-")
            kind, multiple = _click_type(hints[f.name])
            if kind is bool:
                flag = f"{flag}/--no-{flag[2:]}"
            default = f.default_factory() if callable(f.default_factory) else f.default
            wrapped = click.option(
                flag, f.name, type=kind, default=default, multiple=multiple,
                show_default=default is not None, help=f.metadata.get("help", ""),
            )(wrapped)  # fmt: skip
        help = "Take every setting that is not on the command line from this stage.json."
        return click.option("--params", type=click.Path(path_type=Path), help=help)(wrapped)

    return wrap


def _silent(ctx: click.Context, name: str) -> bool:
    """True when the user gave no such flag."""
    return ctx.get_parameter_source(name) in (None, ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)


def _from_json(value: Any) -> Any:
    return tuple(_from_json(v) for v in value) if isinstance(value, list) else value


def _recorded_params(path: Path | None, ctx: click.Context) -> dict[str, Any]:
    if path is None:
        return {"params": {}, "seed": None}
    try:
        document = json.loads(path.read_text())
        params, stage, seed = document["params"], document["stage"], document.get("seed")
        if not isinstance(params, dict):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OmegaError(
            f"{path} is not a stage.json that can be read.",
            "Give the stage.json of the run to repeat, such as avatar/uv/stage.json.",
        ) from error
    if ctx.info_name in ctx_stage_names(ctx) and stage != ctx.info_name:
        raise OmegaError(f"{path} records a run of {stage}, not of {ctx.info_name}.")
    return {"params": params, "seed": seed}


def ctx_stage_names(ctx: click.Context) -> set[str]:
    """The names of the commands beside this one (empty when it runs alone, as in a test)."""
    group = ctx.parent.command if ctx.parent else None
    return set(group.list_commands(ctx.parent)) if isinstance(group, click.Group) and ctx.parent else set()


def _refuse_unknown(params: dict[str, Any], known: set[str], given: dict[str, Any]) -> None:
    unknown = sorted(set(params) - known)
    if unknown:
        raise OmegaError(
            f"The recorded run has a setting that this version does not know: {', '.join(unknown)}.",
            "Give the settings by hand, or use the version of omega that the record names.",
        )


def resolve_device(device: str) -> str:
    """'auto' to 'cuda' or 'cpu'. Loads torch only where an NVIDIA driver shows itself."""
    if device == "cpu":
        return "cpu"
    driver = any(Path(p).exists() for p in ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg"))
    if driver:
        import torch

        if torch.cuda.is_available():
            return "cuda"
    if device == "cuda":
        raise OmegaError(
            "--device cuda was asked for, but torch sees no CUDA device.",
            "Run `omega doctor` to see what is missing, or use --device cpu.",
        )
    return "cpu"


def common_options(function: Command) -> Command:
    """Flags that every command has; see the module's text. Passes only what the signature asks for."""
    wanted = set(inspect.signature(function).parameters)

    @functools.wraps(function)
    def command(**given: Any) -> Any:
        ctx = click.get_current_context()
        quiet, verbose, as_json = given.pop("quiet"), given.pop("verbose"), given.pop("as_json")
        ctx.meta["omega.verbose"] = verbose
        if "report" in wanted:
            given["report"] = Report(quiet=quiet, verbose=verbose)
        if "as_json" in wanted:
            given["as_json"] = as_json
        if "device" in given:
            given["device"] = resolve_device(given["device"])
        result = function(**given)
        _print_result(result, as_json)
        return result

    flags = [
        click.option("-q", "--quiet", is_flag=True, help="No progress, only results and errors."),
        click.option("-v", "--verbose", is_flag=True, help="More detail; tracebacks of errors."),
        click.option("--json", "as_json", is_flag=True, help="The result as one JSON object on stdout."),
    ]
    if "device" in wanted:
        choice = click.Choice(["auto", "cpu", "cuda"])
        flags.append(click.option("--device", type=choice, default="auto", show_default=True,
                                  help="Where to compute."))  # fmt: skip
    if "seed" in wanted:
        flags.append(click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
                                  help="Seed of everything random."))  # fmt: skip
    if "force" in wanted:
        flags.append(click.option("--force", is_flag=True, help="Overwrite results edited by hand."))
    wrapped: Any = command
    for flag in reversed(flags):
        wrapped = flag(wrapped)
    return wrapped


def print_json(document: Any) -> None:
    """One JSON value on stdout."""
    click.echo(json.dumps(document, indent=2, default=str))


def _print_result(result: Any, as_json: bool) -> None:
    if result is None:
        return
    if isinstance(result, dict):
        print_json(result)
        return
    paths = [Path(p) for p in (result if isinstance(result, (list, tuple)) else [result])]
    if not as_json:
        for path in paths:
            click.echo(str(path))
        return
    results = [{"path": str(path), **_summary(path)} for path in paths]
    print_json(results[0] if len(results) == 1 else {"results": results})


def _summary(path: Path) -> dict[str, Any]:
    """The part of a result's record that a program asks for."""
    from omega_cli.avatar import layout

    try:
        document = json.loads(((path if path.is_dir() else path.parent) / layout.STAGE).read_text())
    except (OSError, ValueError):
        return {}
    return {name: document[name] for name in ("stage", "seconds", "metrics", "warnings") if name in document}
