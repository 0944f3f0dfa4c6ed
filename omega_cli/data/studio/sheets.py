"""Contact sheets of generated people. Pure maths: tensors in, pictures out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from omega_cli.data.studio.light import sample_light, studio_light
from omega_cli.data.studio.look import Draw
from omega_cli.data.studio.people import Person, generator
from omega_cli.data.studio.scene import Sample, render_sample
from omega_cli.geometry.camera import Camera, perspective
from omega_cli.head.params import HeadParams

VIEWS = (("front", 0.0), ("three_quarter", 45.0), ("side", 90.0), ("back", 180.0))
CENTRE, HALF_EXTENT, DISTANCE, ELEVATION_DEG = (0.0, -0.015, -0.01), 0.205, 1.3, 3.0
# Expressions worth showing: a name, how often, up to how strong.
PLAY = (
    ("mouthSmile", 0.5, 0.55),
    ("jawOpen", 0.25, 0.35),
    ("browInnerUp", 0.25, 0.6),
    ("browDown", 0.2, 0.6),
    ("eyeSquint", 0.2, 0.6),
    ("eyeBlink", 0.15, 0.5),
    ("mouthPucker", 0.1, 0.6),
)
COLOURS = (
    torch.tensor(
        [
            [28, 28, 30],
            [230, 180, 150],
            [70, 40, 30],
            [250, 250, 250],
            [0, 255, 255],
            [220, 110, 90],
            [255, 215, 0],
            [240, 150, 110],
            [110, 10, 30],
            [220, 60, 110],
            [170, 20, 80],
            [150, 190, 130],
            [255, 215, 0],
            [70, 110, 190],
            [120, 70, 160],
            [60, 60, 60],
        ]
    )
    / 255.0
)
"""One colour per PARSING_LABELS."""


@dataclass(frozen=True)
class Panel:
    """One person's row: colour [K, 3, H, W] over a backdrop, and the same for labels and normals."""

    colour: Tensor
    labels: Tensor
    normals: Tensor


def cameras(size: int) -> list[Camera]:
    """Front, three quarters, side (the subject's left ear), back."""
    centre = torch.tensor(CENTRE)
    return [
        perspective(azimuth, size, HALF_EXTENT, DISTANCE, centre, ELEVATION_DEG, name)
        for name, azimuth in VIEWS
    ]


def moment(person: Person) -> HeadParams:
    """A mild expression and gaze, drawn from the person's seed."""
    draw = Draw(generator(person.seed, 20))
    names = person.model.expression_names
    params = HeadParams.zeros(person.model.S, person.model.E)
    expression = params.expression.clone()
    for name, often, most in PLAY:
        if draw.chance(often):
            value = draw.uniform(0.1, most)
            for full in (name, f"{name}Left", f"{name}Right"):
                if full in names:
                    expression[0, names.index(full)] = value
    gaze = torch.tensor([[draw.normal(0, 0.04), draw.normal(0, 0.10), 0.0]])
    return params.replace(expression=expression, leye_pose=gaze, reye_pose=gaze)


def panel(person: Person, size: int, *, plain: bool = False) -> Panel:
    """The person under a light and before a backdrop of their own; plain: the even studio light, at rest."""
    rng = generator(person.seed, 21)
    light = studio_light() if plain else sample_light(rng)
    params = HeadParams.zeros(person.model.S, person.model.E) if plain else moment(person)
    sample = render_sample(person, params, cameras(size), light, size)
    backdrop = torch.tensor([0.5, 0.52, 0.55]) if plain else 0.35 + 0.45 * torch.rand(3, generator=rng)
    return _panel(sample, 0.6 * backdrop + 0.4 * backdrop.mean())


def _panel(sample: Sample, backdrop: Tensor) -> Panel:
    alpha = sample.alpha
    colour = sample.rgb * alpha + backdrop[:, None, None] * (1 - alpha)
    labels = COLOURS[sample.labels].permute(0, 3, 1, 2)
    normals = (sample.normal * 0.5 + 0.5) * alpha + 0.5 * (1 - alpha)
    return Panel(colour, labels, normals)


def grid(pictures: list[Tensor], columns: int) -> Tensor:
    """Pictures [3, H, W] in rows of `columns` -> [3, rows * H, columns * W]; the last row is filled grey."""
    blank = torch.full_like(pictures[0], 0.2)
    filled = pictures + [blank] * (-len(pictures) % columns)
    rows = [torch.cat(filled[i : i + columns], 2) for i in range(0, len(filled), columns)]
    return torch.cat(rows, 1)


def sheets(panels: list[Panel], columns: int = 8) -> dict[str, Tensor]:
    """Name -> sheet: one for each view, `labels`, `normals`, and `people` (all views of the first dozen)."""
    out = {name: grid([p.colour[i] for p in panels], columns) for i, (name, _) in enumerate(VIEWS)}
    few = panels[:12]
    out["people"] = grid([view for p in few for view in p.colour], 2 * len(VIEWS))
    out["labels"] = grid([view for p in few for view in p.labels], 2 * len(VIEWS))
    out["normals"] = grid([view for p in few for view in p.normals], 2 * len(VIEWS))
    return out
