"""Two photographs of one real person: the avatar of one, driven to the face of the other.

The London set has 70 adults neutral (NNN_03) and smiling (NNN_08), CC BY 4.0: real reenactment, of which the
studio's people only have their own. The second photo is tracked as a film's frame is, with the identity that
the first one gave. A pack of portraits has no landmarks: they are found again in its pictures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from omega_cli.errors import OmegaError
from omega_cli.track.landmarks import Face, Landmarker, find_faces
from omega_cli.train.avatar.samples import DRIVEN, AvatarSample
from omega_cli.train.avatar.studio import AvatarStudio, _Known, _stacked
from omega_cli.train.views import portraits
from omega_cli.train.views.portraits import Portrait
from omega_cli.train.views.shots import Tracked

SOURCES, OTHERS = "03", "08"  # the London set's numbers for neutral and smiling, from in front
BACKDROP = 0.5


def names(pack: Path) -> list[tuple[str, str]]:
    """(neutral, smiling) of the people of whom a pack has both."""
    known = portraits.names(pack)
    people = [name.split("_")[0] for name in known if re.fullmatch(rf"\d{{3}}_{SOURCES}", name)]
    both = [(f"{person}_{SOURCES}", f"{person}_{OTHERS}") for person in people]
    return [pair for pair in both if pair[1] in known]


def read(pack: Path, wanted: list[tuple[str, str]]) -> Iterator[tuple[Portrait, Portrait]]:
    """The portraits of these pairs."""
    for pair in wanted:
        first, second = portraits.read(pack, list(pair))
        yield first, second


def face_of(portrait: Portrait, landmarker: Landmarker) -> Face:
    """The face of a portrait, in its pixels. Raises OmegaError where none is found."""
    alpha = portrait.rgba[3:]
    seen = portrait.rgba[:3] * alpha + BACKDROP * (1 - alpha)  # a pack keeps no colours where nobody is
    faces = find_faces((seen * 255).round().byte().permute(1, 2, 0).numpy(), landmarker)
    if not faces:
        raise OmegaError(f"No face is found in the portrait {portrait.name}.", "Leave this pair out.")
    return faces[0]


@torch.no_grad()
def sample(studio: AvatarStudio, source: Portrait, other: Portrait, face: Face) -> AvatarSample:
    """`AvatarStudio.portrait` of the source, with a second target: the other photo, driven.

    face: the other photo's, of `face_of`. What of that photo an avatar can show is decided by its own parsing
    and by the source's mesh in the other's pose.
    """
    made, photographer = studio.portrait(source), studio.studio.photographer
    known = _Known(studio.studio, made.params, made.offsets)
    params, camera = photographer.follow(made.params.betas, face)
    model = studio.studio.sources.model
    points = model.landmark_points(model(params, made.offsets).vertices[0], "ibug68")
    taken = Tracked(other.rgba, other.labels, other.area, params, camera, points, camera.project(points)[0])
    driven = replace(studio._source(known, taken), kind=torch.tensor([DRIVEN]))
    return replace(made, targets=_stacked([made.targets, driven]))
