"""A few small people, made once."""

from __future__ import annotations

import pytest

from omega_cli.data.studio.light import studio_light
from omega_cli.data.studio.look import sample_look
from omega_cli.data.studio.people import Person, Sources, generator, load_sources, sample_person
from omega_cli.data.studio.scene import Sample, render_sample
from omega_cli.geometry.camera import Camera, orthographic

WANTED = {
    "long": ("long straight", "long side", "long wavy", "bob"),
    "short": ("crop", "messy", "side part", "quiff"),
    "curls": ("short curls", "long curls", "afro"),
    "bald": ("bald",),
}


@pytest.fixture(scope="session")
def sources() -> Sources:
    return load_sources(256)


@pytest.fixture(scope="session")
def people(sources: Sources) -> dict[str, Person]:
    """The first seed of each kind of hair, without hat or high collar, one of them bearded, the bald
    one without glasses."""
    looks = {seed: sample_look(generator(seed, 1)) for seed in range(400)}
    found = {}
    for name, styles in WANTED.items():
        beard = name == "short"
        fits = (
            s
            for s, look in looks.items()
            if look.style in styles
            and (look.beard == "full beard") == beard
            and not (name == "bald" and look.glasses)
            and not look.hat
            and look.collar != "turtle"
        )
        found[name] = sample_person(next(fits), sources)
    return found


@pytest.fixture(scope="session")
def ring() -> list[Camera]:
    """Front, three quarters and back."""
    return [orthographic(azimuth, 96, 0.21) for azimuth in (0.0, 40.0, 180.0)]


@pytest.fixture(scope="session")
def plain(people: dict[str, Person], ring: list[Camera]) -> dict[str, Sample]:
    """Each person at rest in even light, 96 px."""
    return {name: render_sample(p, p.model.zeros(), ring, studio_light(), 96) for name, p in people.items()}
