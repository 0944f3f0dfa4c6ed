"""The embedded benchmark: eight generated people, drawn on the spot. No files, so no --root.

An identity is the seed of `studio.people.sample_person` in four digits. Frame 0 of the sequence "studio" is
the instant that is compared; frames 1 and 2 show other expressions with the head turned, to drive avatars.
The camera "photo" takes the source picture: from the front but for a little that the seed decides. All others
are ids such as `az045_el-15`, as for VALID heads: az 0 sees the face, az 90 the subject's left ear. Each
person stands in a light of their own. The world is the head's canonical frame.

Textures have TEXTURE_SIZE px whatever the protocol's size: a person's look is drawn per texel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor

from omega_cli.data.studio import STUDIO_VERSION
from omega_cli.data.studio.light import Light, sample_light
from omega_cli.data.studio.look import Draw
from omega_cli.data.studio.people import Person, Sources, generator, load_sources, sample_person
from omega_cli.data.studio.scene import render_sample
from omega_cli.data.valid import view_camera
from omega_cli.errors import OmegaError
from omega_cli.evaluate.frames import Frame, View
from omega_cli.evaluate.protocol import STUDIO_SEQUENCE, Protocol
from omega_cli.geometry.camera import Camera, perspective
from omega_cli.head.model import HeadModel
from omega_cli.head.params import HeadParams

TEXTURE_SIZE = 512
CENTRE = (0.0, 0.0, -0.01)  # m: middle of the skull in the canonical frame
HALF_EXTENT, DISTANCE = 0.19, 1.2  # m, of the source picture: hair and collar are seen  # ours
JITTER_DEG = (5.0, 3.0)  # largest azimuth and elevation of the source camera  # ours
SOURCE_CAMERA = "photo"
AT_ONCE = 2  # views drawn in one go: 0.46 s each at 512 px, alone 0.54 s; four together outgrow the cache
_LIGHT, _CAMERA = 40, 41  # purposes of `generator`, none of which the studio's own files use

# What each frame shows: expression by ARKit name (a name without a side is both), neck [3] rad
MOMENTS: tuple[tuple[dict[str, float], tuple[float, float, float]], ...] = (
    ({"mouthSmile": 0.15, "browInnerUp": 0.1}, (0.0, 0.0, 0.0)),
    ({"jawOpen": 0.45, "browInnerUp": 0.6, "browOuterUp": 0.5}, (0.05, 0.25, 0.0)),
    ({"mouthSmile": 0.7, "cheekSquint": 0.4, "eyeBlink": 0.5}, (-0.08, -0.2, 0.06)),
)


def freeze(root: Path, protocol: Protocol) -> Protocol:
    """Unchanged: the people stand still, so there is nothing to sample."""
    if not protocol.frozen:
        raise OmegaError(
            f"The protocol {protocol.name} samples fractions, but the studio has frames 0 to "
            f"{len(MOMENTS) - 1} of everybody.",
            f'Give every sample "sequence": "{STUDIO_SEQUENCE}" and "frames": [0].',
        )
    if protocol.studio_version != STUDIO_VERSION:
        raise OmegaError(
            f"The protocol {protocol.name} is for version {protocol.studio_version} of the studio; this is "
            f"version {STUDIO_VERSION}, whose people look different.",
            "Take the protocol that comes with this version, or the omega that the protocol came with.",
        )
    return protocol


def read(root: Path, protocol: Protocol) -> Iterator[Frame]:
    """The protocol's people; views are drawn, AT_ONCE together, when one of them is asked for."""
    protocol = freeze(root, protocol)
    if not protocol.target_cameras:
        raise OmegaError(
            f"The protocol {protocol.name} names no target cameras.",
            'The studio draws from any: list ids such as "az090_el+00".',
        )
    studio = _Studio(protocol.size)
    for sample in protocol.samples:
        seed = _seed(sample.identity)
        wrong = [f for f in sample.frames if f >= len(MOMENTS)]
        if sample.sequence != STUDIO_SEQUENCE or wrong:
            raise OmegaError(
                f"The protocol {protocol.name} asks for {sample.where}, frames {list(sample.frames)}.",
                f'The studio has "sequence": "{STUDIO_SEQUENCE}", frames 0 to {len(MOMENTS) - 1}.',
            )
        ids = (protocol.source_camera, *protocol.target_cameras)
        cameras = [_camera(name, seed, protocol.size) for name in ids]
        for frame in sample.frames:
            views = studio.views(seed, frame, cameras)
            pose = torch.eye(4)
            pose[:3, 3] = torch.tensor(CENTRE)
            yield Frame(sample.identity, STUDIO_SEQUENCE, frame, views[0], views[1:], (), pose, pose[:3, 3])


def moment(model: HeadModel, frame: int) -> HeadParams:
    """What everybody does in that frame: the truth for driven avatars. T = 1."""
    shapes, neck = MOMENTS[frame]
    params = model.zeros()
    expression = params.expression.clone()
    for name, weight in shapes.items():
        found = [i for i, full in enumerate(model.expression_names) if full in _sides(name)]
        expression[0, found] = weight
    return params.replace(expression=expression, neck_pose=torch.tensor([neck]))


def _sides(name: str) -> tuple[str, str, str]:
    return name, f"{name}Left", f"{name}Right"


def _seed(identity: str) -> int:
    if not (identity.isdecimal() and len(identity) >= 4):
        raise OmegaError(
            f"The studio has no identity {identity!r}.",
            'Identities are seeds in four digits, such as "0010".',
        )
    return int(identity)


def _camera(name: str, seed: int, size: int) -> Camera:
    centre = torch.tensor(CENTRE)
    if name != SOURCE_CAMERA:
        return view_camera(name, centre, size)
    draw = Draw(generator(seed, _CAMERA))
    azimuth, elevation = (draw.uniform(-most, most) for most in JITTER_DEG)
    distance = DISTANCE * draw.uniform(0.8, 1.25)
    return perspective(azimuth, size, HALF_EXTENT, distance, centre, elevation, name)


@cache
def _sources() -> Sources:
    """What all people are made of: a second to read, and never changed."""
    return load_sources(TEXTURE_SIZE)


class _Studio:
    """People and pictures as they are asked for; the last person and the last few drawings are kept."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._person = lru_cache(maxsize=1)(self._make)
        self._drawn = lru_cache(maxsize=2)(self._draw)
        self._cameras: dict[tuple[int, str], Camera] = {}

    def views(self, seed: int, frame: int, cameras: Sequence[Camera]) -> list[View]:
        """A view for each camera; colours are not multiplied by alpha."""
        made = []
        for start in range(0, len(cameras), AT_ONCE):
            group = tuple(camera.id for camera in cameras[start : start + AT_ONCE])
            for k, camera in enumerate(cameras[start : start + AT_ONCE]):
                self._cameras[seed, camera.id] = camera
                image, mask, labels = (partial(self._part, seed, frame, group, k, part) for part in range(3))
                made.append(View(camera, image, mask, labels=labels))
        return made

    def _part(self, seed: int, frame: int, group: tuple[str, ...], k: int, part: int) -> Tensor:
        return self._drawn(seed, frame, group)[part][k].clone()

    def _make(self, seed: int) -> tuple[Person, Light]:
        return sample_person(seed, _sources()), sample_light(generator(seed, _LIGHT))

    def _draw(self, seed: int, frame: int, group: tuple[str, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures [K, 3, S, S], masks [K, 1, S, S], labels [K, 1, S, S] of the cameras named."""
        with torch.no_grad():
            person, light = self._person(seed)
            cameras = [self._cameras[seed, name] for name in group]
            sample = render_sample(person, moment(person.model, frame), cameras, light, self.size)
        return sample.rgb.clamp(0, 1), sample.alpha, sample.labels[:, None]
