"""Times the kernels: `python -m omega_cli.kernels.bench`. What the figures mean: docs/performance.md.

Each line is the median of interleaved runs of ours and of the torch-native way; on a GPU also the time
that the bytes alone would take at the copy bandwidth measured in the same run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import torch

from omega_cli.kernels import bench_timing as timing
from omega_cli.kernels.bench_cases import SECTIONS, SIZES, Sizes


def run(sections: Sequence[str], device: str, sizes: Sizes) -> Iterator[timing.Row]:
    """Measured rows, one at a time; the inputs of a section are made when it is its turn."""
    clock = timing.Clock(device)
    for section in sections:
        yield from map(clock.row, SECTIONS[section](sizes, device))


def _sections(context: click.Context, parameter: click.Parameter, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        raise click.BadParameter(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    return names


@click.command(help="Time the kernels and print a table.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--only", callback=_sections, default=",".join(SECTIONS), show_default=True, help="Sections, by commas."
)
@click.option("--threads", type=int, default=None, help="CPU threads  [default: torch's own]")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the rows here.")
def main(device: str, only: list[str], threads: int | None, json_file: Path | None) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise click.ClickException("torch sees no CUDA device")
    if threads is not None:
        torch.set_num_threads(threads)
    on = timing.machine(device)
    click.echo(", ".join(f"{key} {value}" for key, value in on.items()))
    rows = []
    for row in run(only, device, SIZES[device]):
        rows.append(row)
        click.echo(f"{row.op}, {row.shape}: {row.ours_ms:.3f} ms", err=True)
    click.echo(timing.table(rows))
    if json_file is not None:
        timing.write_json(json_file, on, rows)


if __name__ == "__main__":
    main()
