"""Two photographs of one real person: the avatar of one, driven to the face of the other.

The London set has 70 adults neutral (NNN_03) and smiling (NNN_08), CC BY 4.0: real reenactment, of which the
studio's people only have their own. The second photo is tracked as a film's frame is, with the identity that
the first one gave. A pack of portraits has no landmarks: `python -m omega_cli.train.avatar.pairs PACK.npz`
finds those of the second photos and keeps them in it, so that training needs no landmarker.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import torch

from omega_cli.avatar import codecs
from omega_cli.errors import OmegaError
from omega_cli.track.landmarks import Face, Landmarker, find_faces
from omega_cli.train.avatar.samples import DRIVEN, AvatarSample
from omega_cli.train.avatar.studio import AvatarStudio, KnownHead, stacked
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


def keep_faces(pack: Path, landmarker: Landmarker) -> int:
    """Find the faces of the second photos and write them into the pack; how many. Raises OmegaError for a
    photo without a face."""
    with np.load(pack, allow_pickle=False) as z:
        arrays = {name: z[name] for name in z.files}
    pairs = names(pack)
    for (_, name), (_, other) in zip(pairs, read(pack, pairs), strict=True):
        found = asdict(face_of(other, landmarker))
        arrays |= {f"{name}/face_{field}": array for field, array in found.items()}
    codecs.save_arrays(pack, **arrays)
    return len(pairs)


def kept_face(pack: Path, name: str) -> Face:
    """What `keep_faces` found in a photo. Raises OmegaError where it did not run."""
    with np.load(pack, allow_pickle=False) as z:
        if f"{name}/face_points" not in z.files:
            raise OmegaError(
                f"{pack} has no landmarks of {name}.", f"Run python -m omega_cli.train.avatar.pairs {pack}"
            )
        return Face(**{field.name: z[f"{name}/face_{field.name}"] for field in fields(Face)})


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
    known = KnownHead(studio.studio, made.params, made.offsets)
    params, camera = photographer.follow(made.params.betas, face)
    model = studio.studio.sources.model
    points = model.landmark_points(model(params, made.offsets).vertices[0], "ibug68")
    taken = Tracked(other.rgba, other.labels, other.area, params, camera, points, camera.project(points)[0])
    driven = replace(studio.source(known, taken), kind=torch.tensor([DRIVEN]))
    return replace(made, targets=stacked([made.targets, driven]))


if __name__ == "__main__":
    from omega_cli import weights

    with Landmarker(weights.resolve("face_landmarker").read_bytes()) as at_hand:
        count = keep_faces(Path(sys.argv[1]), at_hand)
    sys.stdout.write(f"landmarks of {count} photos in {sys.argv[1]}\n")
