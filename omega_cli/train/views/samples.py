"""One training sample as bytes [103, size, size]: what the network is told, and what is true.

Planes: 6 x 9 of the lift, 7 of the aligned photo (mv_diffuse/conditioning), 6 x 7 of the truth (rgb on white,
normal * 0.5 + 0.5, alpha), all in [0, 1] times 255.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from omega_cli.data.studio.blend_draw import draw_blend
from omega_cli.data.studio.blends import BlendPerson, Blends, load, plain_blend, sample_blend
from omega_cli.data.studio.people import Person, Sources, load_sources, sample_person
from omega_cli.data.studio.scene import Sample, render_sample
from omega_cli.geometry.camera import Camera
from omega_cli.head.params import HeadParams
from omega_cli.mv_diffuse.conditioning import LIFT_CHANNELS, OUTPUTS, PHOTO_CHANNELS, lift_maps, photo_maps
from omega_cli.mv_diffuse.lift import lift_views
from omega_cli.track.landmarks import SCORES
from omega_cli.train.views.shots import TEXTURE, Photographer, Shot, Sitter, random_scores

VIEWS = 6
LIFT_PLANES, TRUTH_PLANES = VIEWS * LIFT_CHANNELS, VIEWS * OUTPUTS
PLANES = LIFT_PLANES + PHOTO_CHANNELS + TRUTH_PLANES


def packed(shot: Shot, cameras: Sequence[Camera], size: int) -> Tensor:  # [PLANES, size, size] uint8
    lift = lift_maps(shot.lift.views, size).flatten(0, 1)
    photo = photo_maps(shot.rgba, shot.labels, shot.camera, cameras[0], shot.points, size)
    return to_bytes(torch.cat([lift, photo, truth_maps(shot.truth).flatten(0, 1)]))


def truth_maps(truth: Sample) -> Tensor:  # [K, 7, H, W] in [0, 1]
    rgb = truth.rgb * truth.alpha + 1 - truth.alpha
    return torch.cat([rgb, (truth.normal * (truth.alpha > 0)) * 0.5 + 0.5, truth.alpha], 1)


def to_bytes(maps: Tensor) -> Tensor:
    return (maps.clamp(0, 1) * 255).round().byte()


def unpacked(sample: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """uint8 [B, PLANES, h, w] -> lift [B, 6, 9, h, w], photo [B, 7, h, w], truth [B, 6, 7, h, w] in [0, 1];
    the truth's normals in [-1, 1]."""
    values = sample.float() / 255
    lift, photo, truth = values.split([LIFT_PLANES, PHOTO_CHANNELS, TRUTH_PLANES], 1)
    truth = truth.unflatten(1, (VIEWS, OUTPUTS))
    truth = torch.cat([truth[:, :, :3], truth[:, :, 3:6] * 2 - 1, truth[:, :, 6:]], 2)
    return lift.unflatten(1, (VIEWS, LIFT_CHANNELS)), photo, truth


def mirrored(lift: Tensor, photo: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same person seen in a mirror: views change places (45° with 315°, 90° with 270°), x flips."""
    order = torch.tensor([0, 5, 4, 3, 2, 1], device=lift.device)
    lift, photo, truth = lift[:, order].flip(-1), photo.flip(-1), truth[:, order].flip(-1)
    lift = torch.cat([lift[:, :, :3], 1 - lift[:, :, 3:4], lift[:, :, 4:]], 2)
    truth = torch.cat([truth[:, :, :3], -truth[:, :, 3:4], truth[:, :, 4:]], 2)
    return lift, photo, truth


def studio_sitter(person: Person, generator: torch.Generator) -> Sitter:
    """A generated person with a random face."""
    model = person.model
    expression, scores = random_scores(generator, model.expression_names)
    params = HeadParams.zeros(model.S, model.E).replace(expression=expression[None])
    moved = model.animate(person.canonical, params).vertices[0]

    def draw(cameras, light, size) -> Sample:
        return render_sample(person, params, cameras, light, size)

    return Sitter(
        draw, model.landmark_points(moved, "ibug68"), model.landmark_points(moved, "mediapipe478"), scores
    )


def blend_sitter(person: BlendPerson) -> Sitter:
    """A blend with its own expression; no landmarker scores are known of its face."""

    def draw(cameras, light, size) -> Sample:
        return draw_blend(person, None, cameras, light, size)

    return Sitter(draw, person.landmarks(person.posed(None)), None, np.zeros(len(SCORES)))


def front_sample(
    photographer: Photographer,
    params: HeadParams,
    camera: Camera,  # the photo's, in the head frame
    rgba: Tensor,  # [4, H, W]
    labels: Tensor,  # [H, W]
    area: Tensor,  # [H, W] bool: False beyond the photo's edge
    size: int,
) -> Tensor:  # [PLANES, size, size] uint8
    """A tracked photograph. Its front view's truth is the lift's: what the photo shows is there already,
    outlined through the photo's own camera. The photo itself would be no truth: it is a perspective
    picture, and the view is orthographic. Of the other views nothing is known."""
    model, cameras = photographer.model, photographer.cameras
    lift = lift_views(
        model, params, camera, rgba, labels, area, cameras, TEXTURE, True, True,
        torch.Generator().manual_seed(0),
    )  # fmt: skip
    points = model.landmark_points(model(params).vertices[0], "ibug68")
    photo = photo_maps(rgba, labels, camera, cameras[0], points, size)
    maps = lift_maps(lift.views, size)
    truth = torch.zeros(VIEWS, OUTPUTS, size, size)
    truth[0] = maps[0, :OUTPUTS]
    return to_bytes(torch.cat([maps.flatten(0, 1), photo, truth.flatten(0, 1)]))


class Studio:
    """Everything that samples are made of, read once in each process."""

    def __init__(
        self,
        size: int,
        half_extent: float,
        blends: Path | None = None,
        held_out: Collection[str] = (),
        shapes: Path | None = None,
    ) -> None:
        self.sources: Sources = load_sources(384, shapes)
        self.plain = replace(self.sources, shapes=None)  # scores compare runs: the same people in all
        self.photographer = Photographer(self.sources.model, size, half_extent)
        self.blends: Blends | None = load(blends) if blends is not None else None
        self.size, self.held_out = size, tuple(held_out)

    def samples(self, seed: int, blend: bool, shots: int) -> Iterator[Tensor]:
        """`shots` samples of the person `seed`, from the blends or from the studio."""
        person = self._blend(seed) if blend else sample_person(seed, self.sources)
        for shot in range(shots):
            yield self.sample(person, torch.Generator().manual_seed(seed * 1009 + shot))

    def sample(self, person: Person | BlendPerson, generator: torch.Generator, jitter: float = 1.0) -> Tensor:
        """One photo of a person -> [PLANES, size, size] uint8."""
        if isinstance(person, Person):
            sitter = studio_sitter(person, generator)
        else:
            sitter = blend_sitter(person)
        return packed(
            self.photographer.shoot(sitter, generator, jitter), self.photographer.cameras, self.size
        )

    def head(self, name: str, generator: torch.Generator, jitter: float) -> Tensor:
        """One held-out head as it is."""
        if self.blends is None:
            raise ValueError("no pack of heads was given")
        return self.sample(plain_blend(name, self.blends), generator, jitter)

    def _blend(self, seed: int) -> BlendPerson:
        if self.blends is None:
            raise ValueError("no pack of heads was given")
        return sample_blend(seed, self.blends, self.held_out)
