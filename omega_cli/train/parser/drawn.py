"""Generated people and blends as the tracker's crop would show them, with the label of every pixel.

A sample is bytes [5, size, size]: rgb (straight, 0 where empty), alpha, label.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from omega_cli.data.studio.blend_draw import draw_blend
from omega_cli.data.studio.blends import BlendPerson, Blends, load, plain_blend, sample_blend
from omega_cli.data.studio.glasses import SIDES
from omega_cli.data.studio.light import sample_light
from omega_cli.data.studio.look import Draw
from omega_cli.data.studio.people import Person, Sources, load_sources, sample_person
from omega_cli.data.studio.scene import Sample, pose, render_sample
from omega_cli.geometry.camera import Camera, perspective
from omega_cli.head.params import HeadParams
from omega_cli.track import parsing as labels
from omega_cli.track.observe import SIZE
from omega_cli.train.views.shots import random_scores

PLANES = 5
RIM = 41 * SIDES  # vertices of a rim of `glasses.Glasses`; then a temple's
TEMPLE = 16 * SIDES
BEHIND_A_LENS = (labels.SKIN, labels.BROWS, labels.EYES, labels.NOSE)


def sample_camera(points68: Tensor, draw: Draw) -> Camera:
    """A camera before a face [68, 3] m whose crop is about the tracker's: the head turned by at most 60°
    and 20°, rolled a little, its height 40 to 75 % of the picture; SIZE px."""
    azimuth = max(-60.0, min(60.0, draw.normal(0, 28)))
    elevation = max(-20.0, min(20.0, draw.normal(0, 9)))
    roll = math.radians(max(-25.0, min(25.0, draw.normal(0, 7))))
    centre = torch.tensor([0.0, -0.02, 0.0])
    view = perspective(azimuth, SIZE, 0.22, 0.5 * 6 ** draw.uniform(), centre, elevation)
    c, s = math.cos(roll), math.sin(roll)
    turned = view.viewmat.clone()
    turned[:2] = torch.tensor([[c, -s], [s, c]]) @ turned[:2]
    view = dataclasses.replace(view, viewmat=turned)
    pixels = view.project(points68)[0]
    low, high = pixels.amin(0), pixels.amax(0)
    wide, tall = (high - low).tolist()
    face = max(1.32 * tall, 1.15 * wide)  # as `crop.face_height`: the 68 points end at the brows
    side = face * draw.uniform(1.75, 2.9)
    x = float(low[0] + high[0]) / 2 - 0.35 * face * math.sin(math.radians(-azimuth))
    y = float(high[1]) - 0.58 * face
    x, y = x + draw.normal(0, 0.03) * side, y + draw.normal(0, 0.03) * side
    scale = SIZE / side
    K = view.K.clone()
    K[:2] *= scale
    K[0, 2] += SIZE / 2 - x * scale
    K[1, 2] += SIZE / 2 - y * scale
    return dataclasses.replace(view, K=K)


def packed(seen: Sample) -> Tensor:  # [PLANES, size, size] uint8
    """One view as bytes; where it is mostly empty the label is background."""
    alpha = seen.alpha[0]
    number = torch.where(alpha > 0.5, seen.labels[:1], labels.BACKGROUND)
    return torch.cat([(torch.cat([seen.rgb[0], alpha]).clamp(0, 1) * 255).round().byte(), number.byte()])


def with_lenses(sample: Tensor, rims: Sequence[np.ndarray], tint: Tensor, share: float) -> Tensor:
    """Glasses are labelled whole, and their lenses may be dark. rims: vertices [n, 2] px of each rim;
    tint [3], share in [0, 1]: colour of the lens and how much of what is behind it that replaces."""
    size = sample.shape[-1]
    lens = np.zeros((size, size), np.uint8)
    for rim in rims:
        cv2.fillConvexPoly(lens, cv2.convexHull(rim.astype(np.float32)).round().astype(np.int32), 1)
    number = sample[4]
    behind = torch.isin(number, torch.tensor(BEHIND_A_LENS, dtype=torch.uint8)) & (torch.from_numpy(lens) > 0)
    out = sample.clone()
    mixed = sample[:3].float() * (1 - share) + 255 * share * tint[:, None, None]
    out[:3] = torch.where(behind, mixed.round().byte(), sample[:3])
    out[4] = torch.where(behind, torch.tensor(labels.GLASSES, dtype=torch.uint8), number)
    return out


class Studio:
    """Everything that samples are made of, read once in each process."""

    def __init__(self, size: int, blends: Path | None = None, held_out: Collection[str] = ()) -> None:
        self.sources: Sources = load_sources(384)
        self.blends: Blends | None = load(blends) if blends is not None else None
        self.size, self.held_out = size, tuple(held_out)

    def samples(self, seed: int, blend: bool, shots: int) -> Tensor:  # [shots, PLANES, size, size] uint8
        """Pictures of the person of that seed, each with a face, a camera and a light of its own."""
        person: Person | BlendPerson
        if blend:
            person = sample_blend(seed, self._heads(), self.held_out)
        else:
            person = sample_person(seed, self.sources)
        return self._shots(person, seed, shots)

    def head(self, name: str, seed: int, shots: int) -> Tensor:
        """The same of one head of the pack as it is."""
        return self._shots(plain_blend(name, self._heads()), seed, shots)

    def _heads(self) -> Blends:
        if self.blends is None:
            raise ValueError("no pack of heads was given")
        return self.blends

    def _shots(self, person: Person | BlendPerson, seed: int, shots: int) -> Tensor:
        shoot = self._of_person if isinstance(person, Person) else self._of_blend
        rngs = [torch.Generator().manual_seed(seed * 1009 + shot) for shot in range(shots)]
        return torch.stack([shoot(person, rng) for rng in rngs])  # type: ignore[arg-type]

    def _of_blend(self, person: BlendPerson, rng: torch.Generator) -> Tensor:
        draw = Draw(rng)
        expression = person.expression * draw.uniform(0, 1.2)
        camera = sample_camera(person.landmarks(person.posed(expression)), draw)
        camera = camera.resized(self.size, self.size)
        return packed(draw_blend(person, expression, [camera], sample_light(rng), self.size))

    def _of_person(self, person: Person, rng: torch.Generator) -> Tensor:
        draw, model = Draw(rng), person.model
        expression, _ = random_scores(rng, model.expression_names)
        params = HeadParams.zeros(model.S, model.E).replace(expression=expression[None])
        posed = pose(person, params).vertices
        points = model.landmark_points(posed[: len(person.canonical)], "ibug68")
        camera = sample_camera(points, draw).resized(self.size, self.size)
        sample = packed(render_sample(person, params, [camera], sample_light(rng), self.size))
        glasses = torch.nonzero(person.vertex_labels == labels.GLASSES)[:, 0]
        if not len(glasses):
            return sample
        line = camera.project(posed[glasses])[0].numpy()
        rims = line[:RIM], line[RIM + TEMPLE : 2 * RIM + TEMPLE]
        dark = draw.chance(0.35)
        share = draw.uniform(0.5, 0.98) if dark else draw.uniform(0, 0.12)
        tint = draw.uniform(0, 0.25) * torch.rand(3, generator=rng) if dark else torch.ones(3)
        return with_lenses(sample, rims, tint, share)
