"""`omega doctor`."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from omega_cli.options import common_options

MARKS = {"ok": ("ok", "green"), "optional": ("--", "yellow"), "broken": ("NO", "red")}


@click.command("doctor")
@common_options
def command(as_json: bool) -> dict[str, Any] | None:
    """Say what runs on this machine, and for the rest the command that mends it.

    `--` marks what is missing but not needed here. Exit code 1 when something needed is broken.
    """
    from omega_cli.doctor.checks import findings

    found = []
    for finding in findings():
        found.append(finding)
        if not as_json:
            mark, colour = MARKS[finding.level]
            click.echo(f"  {click.style(mark, fg=colour)}  {finding.name:<28} {finding.found}")
            if finding.mend:
                click.echo(f"      {'':<28} → {finding.mend}")
    healthy = all(finding.level != "broken" for finding in found)
    if as_json:
        from omega_cli.options import print_json

        print_json({"healthy": healthy, "findings": [dataclasses.asdict(finding) for finding in found]})
    elif healthy:
        click.echo("Everything that is needed works.")
    click.get_current_context().exit(0 if healthy else 1)
