"""`omega generate`."""

from __future__ import annotations

from pathlib import Path

import click

from omega_cli.generate.pipeline import NAMES, chosen_steps, network_settings
from omega_cli.options import INPUT_FILE, common_options

STAGE = click.Choice(NAMES)


@click.command("generate")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=INPUT_FILE)
@click.option(
    "-o",
    "--output",
    metavar="AVATAR",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Avatar folder; for several pictures the folder that holds their avatars.",
)
@click.option("--from", "from_stage", type=STAGE, help="Run this stage again, and all after it.")
@click.option("--until", "until_stage", type=STAGE, help="Stop after this stage.")
@click.option(
    "--face", type=click.IntRange(0), help="Which face, where there are several (0 is the largest)."
)
@click.option(
    "--parser", type=click.Choice(["own", "bisenet"]), help="Face parser; bisenet: research and personal use."
)
@click.option(
    "--lens", type=click.Choice(["auto", "usual", "found"]),
    help="Camera's distance: auto = EXIF's, else 1 m; found = else read off the face, for selfies.",
)  # fmt: skip
@click.option(
    "--networks",
    metavar="auto|none|DIR",
    help="Avatar networks (encoder, decoder, refiner): those of omega, none, or your own of omega train.",
)
@click.option("--frames", type=click.IntRange(1, 10_000), help="Frames of the turntable.")
@common_options
def command(
    images: tuple[Path, ...], output: Path, from_stage: str | None, until_stage: str | None, face: int | None,
    parser: str | None, lens: str | None, networks: str | None, frames: int | None, device: str, seed: int,
    report, force: bool, as_json: bool,
):  # fmt: skip
    """Make an avatar from a photo: every stage from track to a turntable film.

    Runs only what is not fresh, so it resumes where it stopped. A folder that you edited is used as it
    is. Several IMAGEs, or a folder of them, become one avatar each under the output folder.

    \b
    omega generate face.jpg -o avatar/
    omega generate face.jpg -o avatar/ --from decode
    omega generate faces/*.jpg -o avatars/
    """
    try:
        chosen_steps(from_stage, until_stage)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    given = {"track": {"face": face, "parser": parser, "lens": lens}, "render": {"frames": frames}}
    settings = {step: {k: v for k, v in fields.items() if v is not None} for step, fields in given.items()}
    for step, fields in (network_settings(networks) if networks else {}).items():
        settings[step] = settings.get(step, {}) | fields
    chose_seed = (
        click.get_current_context().get_parameter_source("seed") is click.core.ParameterSource.COMMANDLINE
    )

    from omega_cli.generate import stage

    result = stage.run(
        list(images), output, settings=settings, from_stage=from_stage, until_stage=until_stage,
        device=device, seed=seed if chose_seed else None, report=report, force=force,
    )  # fmt: skip
    return result.as_json() if as_json else result.paths
