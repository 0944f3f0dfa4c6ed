"""A seed's picture and the studio's version change together."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from omega_cli.avatar.layout import PARSING_LABELS
from omega_cli.data.studio import STUDIO_VERSION
from omega_cli.data.studio.light import studio_light
from omega_cli.data.studio.people import Sources, sample_person
from omega_cli.data.studio.scene import render_sample
from omega_cli.geometry.camera import orthographic

SEEDS = (3, 6, 21, 33)
KNOWN = Path(__file__).with_name("version.json")
ROUNDING = 0.012  # of a mean colour or a share: other processors and libraries move edges by less  # ours


def summary(sources: Sources) -> dict[str, list[float]]:
    """Seed and part -> share of the picture and mean colour, front and side together."""
    out = {}
    for seed in SEEDS:
        person = sample_person(seed, sources)
        cameras = [orthographic(azimuth, 96, 0.21) for azimuth in (0.0, 90.0)]
        drawn = render_sample(person, person.model.zeros(), cameras, studio_light(), 96)
        for number, name in enumerate(PARSING_LABELS):
            mask = (drawn.labels == number) & (drawn.alpha[:, 0] == 1)
            if number and int(mask.sum()) > 40:
                colour = [float(drawn.rgb[:, c][mask].mean()) for c in range(3)]
                out[f"{seed} {name}"] = [round(float(mask.float().mean()), 4), *(round(c, 3) for c in colour)]
    return out


def test_pictures_change_only_with_the_version(sources: Sources, update_golden: bool) -> None:
    """If this fails because people look different on purpose: raise STUDIO_VERSION, then --update-golden."""
    found = summary(sources)
    if update_golden:
        KNOWN.write_text(json.dumps({"version": STUDIO_VERSION, "parts": found}, indent=1) + "\n")
    known = json.loads(KNOWN.read_text())
    assert known["version"] == STUDIO_VERSION, "a new version: pytest --update-golden"
    assert found.keys() == known["parts"].keys()
    for part, values in known["parts"].items():
        apart = (torch.tensor(found[part]) - torch.tensor(values)).abs()
        assert apart.max() < ROUNDING and apart[0] < 0.1 * values[0] + 0.002, part
