"""What `omega studio preview` does: people to sheets in a folder, with a record of how."""

from __future__ import annotations

import time
from pathlib import Path

import torch

import omega_cli
from omega_cli.avatar import codecs
from omega_cli.console import Report
from omega_cli.data.studio.people import load_sources, sample_person
from omega_cli.data.studio.sheets import panel, sheets

SCHEMA = "omega/studio-preview/1"
RECORD = "preview.json"


def run(
    output: Path,
    *,
    people: int,
    size: int,
    plain: bool,
    seed: int,
    report: Report,
    shapes: Path | None = None,
) -> list[Path]:
    """Paths of the sheets. Nothing is written before all people are drawn."""
    began = time.perf_counter()
    sources = load_sources(512 if size <= 320 else 1024, shapes)
    panels, looks = [], []
    with torch.no_grad(), report.progress("studio", people) as bar:
        for number in range(seed, seed + people):
            person = sample_person(number, sources)
            panels.append(panel(person, size, plain=plain))
            look = person.look
            looks.append({"seed": number, "hair": look.style, "beard": look.beard, "age": round(look.age)})
            bar.advance()
    output.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, picture in sheets(panels).items():
        paths.append(output / f"{name}.png")
        codecs.save_image(paths[-1], picture)
    seconds = time.perf_counter() - began
    codecs.save_json(
        output / RECORD,
        {
            "schema": SCHEMA,
            "omega": omega_cli.__version__,
            "torch": torch.__version__,
            "seed": seed,
            "size": size,
            "plain": plain,
            "head": {"name": sources.model.name, "sha256": sources.model.sha256},
            "texture_size": sources.atlas.size,
            "shapes": str(shapes) if shapes is not None else "",
            "people": looks,
            "seconds": round(seconds, 2),
        },
    )
    report.stage_done("studio", f"{people} people × 4 views", str(output), seconds)
    return paths
