"""How fast the studio draws: `python -m omega_cli.data.studio.bench --device cuda --people 16 --size 256`.

A sample is one person with six views: colour, normals, depth and labels.
"""

from __future__ import annotations

import time

import click
import torch

from omega_cli.data.studio.light import sample_light
from omega_cli.data.studio.people import load_sources, sample_person
from omega_cli.data.studio.scene import render_people
from omega_cli.geometry.camera import orthographic
from omega_cli.head.params import HeadParams

AZIMUTHS = (0.0, -90.0, 180.0, 90.0, -45.0, 45.0)
HALF_EXTENT = 0.21  # m


@click.command()
@click.option("--device", default="cpu", show_default=True)
@click.option("--people", default=16, show_default=True, help="People drawn in one go.")
@click.option("--size", default=256, show_default=True, help="Side of a picture, pixels.")
@click.option("--rounds", default=5, show_default=True, help="Timed repetitions; the best counts.")
@click.option("--texture", default=512, show_default=True, help="Side of the skin's texture.")
@click.option("--threads", default=1, show_default=True, help="Of the CPU.")
@torch.no_grad()
def bench(device: str, people: int, size: int, rounds: int, texture: int, threads: int) -> None:
    """Samples per second of `render_people`, and seconds of `sample_person`."""
    torch.set_num_threads(threads)
    sources = load_sources(texture)
    sample_person(0, sources)
    began = time.perf_counter()
    crowd = [sample_person(seed, sources) for seed in range(people)]
    made = (time.perf_counter() - began) / people
    crowd = [person.to(device) for person in crowd]
    lights = [sample_light(torch.Generator().manual_seed(seed)) for seed in range(people)]
    cameras = [[orthographic(azimuth, size, HALF_EXTENT) for azimuth in AZIMUTHS]] * people
    params = HeadParams.zeros(sources.model.S, sources.model.E, people, device)

    def once() -> float:
        began = time.perf_counter()
        float(render_people(crowd, params, cameras, lights, size).rgb[0, 0, 0, 0, 0])  # waits for a GPU
        return time.perf_counter() - began

    once()
    seconds = min(once() for _ in range(rounds))
    click.echo(
        f"{people / seconds:.1f} samples/s on {device}: {people} people x {len(AZIMUTHS)} views of {size} px "
        f"(RGB, normals, depth, labels) in {1e3 * seconds:.1f} ms = {people * len(AZIMUTHS) / seconds:.0f} "
        f"pictures/s; a new person {made:.3f} s (CPU, {threads} threads)"
    )
    if torch.cuda.is_available() and device != "cpu":
        click.echo(f"peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


if __name__ == "__main__":
    bench()
