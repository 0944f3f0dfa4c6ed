"""`omega inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from omega_cli.options import AVATAR, common_options

COLOURS = {"fresh": "green", "stale": "yellow", "edited": "cyan"}


@click.command("inspect")
@click.argument("avatar", type=AVATAR)
@common_options
def command(avatar: Path, as_json: bool) -> dict[str, Any] | None:
    """Say which folders of AVATAR are fresh, stale, edited by hand or missing, and why.

    Compares digests of every file with the records (stage.json). Exit code 0 whatever it finds.

    \b
      omega inspect avatar/
      omega inspect avatar/ --json
    """
    from omega_cli.avatar import record
    from omega_cli.inspect.survey import picture, survey

    opened = record.open_avatar(avatar)
    lines = survey(opened)
    if as_json:
        states = [line.as_json() for line in lines]
        return {"avatar": str(avatar), "source": picture(opened), "folders": states}
    click.echo(f"{avatar}  (of {picture(opened)})")
    wide = max(len(line.folder) for line in lines) + 1
    for line in lines:
        state = click.style(f"{line.state:<8}", fg=COLOURS.get(line.state, "red"))
        took = f"{line.seconds:7.1f} s" if line.seconds is not None else " " * 9
        first = line.reasons[0] if line.reasons else ""
        click.echo(f"  {line.folder + '/':<{wide}}  {state}  {took}  {first}".rstrip())
        for reason in line.reasons[1:]:
            click.echo(f"  {'':<{wide}}  {'':<8}  {'':<9}  {reason}")
    stale = [line for line in lines if line.mend]
    if stale:
        click.echo("To bring it up to date:")
        for line in stale:
            click.echo(f"  {line.mend}")
    return None
