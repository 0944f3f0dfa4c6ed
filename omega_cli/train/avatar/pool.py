"""Samples of the avatar network in memory, with what of them does not change while the network learns."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from omega_cli.avatar import layout
from omega_cli.geometry.camera import Camera
from omega_cli.head.model import HeadModel
from omega_cli.head.params import HeadParams
from omega_cli.model import Avatar, Base, OmegaModel, Stand
from omega_cli.mv_diffuse.config import MvDiffuseConfig
from omega_cli.mv_diffuse.views import canonical_cameras
from omega_cli.splat_uv.agreement import agreement_table
from omega_cli.splat_uv.config import VIEW_WEIGHTS
from omega_cli.splat_uv.stage import Photo, Views
from omega_cli.train.avatar.objective import Box, face_box
from omega_cli.train.avatar.samples import SOURCE, AvatarSample, Fit, Targets, unpacked


@dataclass
class Member:
    """One sample on the device, and what was found out about it when it was first asked for.

    stand: the mesh in the views' frame (first) and in those of the targets; faces: where each target shows
    the face; base: the avatar before any network. Views and photo are made anew each time, being large.
    """

    name: str
    sample: AvatarSample
    stand: Stand | None = None
    faces: Faces | None = None
    base: Base | None = None

    @staticmethod
    def load(path: Path, device: torch.device | str) -> Member:
        """Raises OmegaError where there is no such file."""
        return Member(path.stem, moved(AvatarSample.load(path), device))

    @functools.cached_property
    def kinds(self) -> list[int]:
        """Of the targets."""
        return self.sample.targets.kind.tolist()

    def standing(self, head: HeadModel) -> Stand:
        """Frame 0: the views'; frame 1 + k: target k's."""
        if self.stand is None:
            frames = HeadParams.concatenate([self.sample.params, self.sample.targets.frames])
            self.stand = Stand.of(head, self.sample.params, self.sample.offsets, frames)
        return self.stand

    def seen(self, head: HeadModel) -> Faces:
        """Where the targets show the face."""
        if self.faces is None:
            self.faces = Faces.of(head, self.standing(head).vertices[1:], self.sample.targets)
        return self.faces

    def views(self) -> Views:
        """As splat-uv loads them."""
        sample = self.sample
        device = sample.rgb.device
        rgb, mask = sample.rgb.float() / 255, sample.mask.float() / 255
        cameras = _cameras(sample.rgb.shape[-1], device)
        return Views(cameras, list(rgb), list(mask), _weights(device))

    def photo(self, head: HeadModel) -> Photo:
        """The photo as splat-uv asks it."""
        labels = self.sample.labels
        source = 1 + self.kinds.index(SOURCE)
        camera = Camera(self.sample.K, self.sample.viewmat, labels.shape[1], labels.shape[0])
        labels = labels.clamp_max(len(layout.PARSING_LABELS) - 1)
        return Photo(labels, self.standing(head).vertices[source], camera, _agreement(labels.device))


@dataclass(frozen=True)
class Faces:
    """points [T, 68, 2] px: the landmarks in each target; boxes: around the face, None where it is turned
    away or outside; extents: around all that is there."""

    points: Tensor
    boxes: list[Box | None]
    extents: list[Box]

    @staticmethod
    def of(head: HeadModel, vertices: Tensor, targets: Targets) -> Faces:
        """vertices [T, V, 3] m: the head in each target."""
        points = head.landmark_points(vertices, "ibug68")
        boxes: list[Box | None] = []
        pixels = []
        for k, marks in enumerate(points):
            camera = targets.camera(k)
            out = marks[30] - (marks[0] + marks[16]) / 2  # from between the ears to the tip of the nose
            towards = camera.view_directions(marks[30][None])[0]
            pixels.append(camera.project(marks)[0])
            turned = not float((out * towards).sum() / out.norm()) >= 0.3
            boxes.append(None if turned else face_box(pixels[-1], camera.width))
        there = targets.rgba[:, 3] > 0
        extents = [(*_span(mask.any(1)), *_span(mask.any(0))) for mask in there.cpu()]
        return Faces(torch.stack(pixels), boxes, extents)


def _span(filled: Tensor) -> tuple[int, int]:  # [N] bool -> from, to; everything where nothing is
    where = torch.nonzero(filled)[:, 0].tolist()
    return (where[0], where[-1] + 1) if where else (0, len(filled))


def avatar_of(model: OmegaModel, member: Member) -> tuple[Avatar, Views]:
    """A sample's avatar with the model's weights, and its views. What is not learned is kept."""
    views, stand = member.views(), member.standing(model.head)
    uv_map, identity = model.canonical_map(stand.mesh, views, member.photo(model.head))
    if member.base is None:
        base, fit = Base.of(model.head, stand.shaped, uv_map), member.sample.fit
        member.base = base if fit is None else replace(base, fitted=unpacked(fit, base.decoded.covered))
    return model.avatar(stand.shaped, uv_map, identity, member.base), views


@functools.cache
def _cameras(size: int, device: torch.device) -> list[Camera]:
    return [camera.to(device) for camera in canonical_cameras(size, MvDiffuseConfig().half_extent)]


@functools.cache
def _weights(device: torch.device) -> Tensor:
    return torch.tensor([VIEW_WEIGHTS[azimuth] for azimuth in layout.AZIMUTHS], device=device)


@functools.cache
def _agreement(device: torch.device) -> Tensor:
    return agreement_table(layout.PARSING_LABELS).to(device)


class AvatarPool:
    """The samples (.npz) of a folder, read as they come, up to `capacity`; further ones are left alone.

    `names` says in which order they came; a pool that `take`s these first draws the same ones again. part
    (r, n): of n processes the r-th, whose samples no other has.
    """

    def __init__(
        self, folder: Path, capacity: int, device: torch.device | str, part: tuple[int, int] = (0, 1)
    ) -> None:
        self.folder, self.capacity, self.device, self.part = folder, capacity, device, part
        self.members: list[Member] = []
        self._known: set[str] = set()

    def __len__(self) -> int:
        return len(self.members)

    @property
    def names(self) -> list[str]:
        return [member.name for member in self.members]

    def refresh(self, most: int = 4) -> int:
        """Read up to `most` new files; how many came."""
        if len(self) >= self.capacity:
            return 0
        fresh = sorted(p.stem for p in self.folder.glob("*.npz") if p.stem not in self._known)
        fresh = [name for name in fresh if zlib.crc32(name.encode()) % self.part[1] == self.part[0]]
        fresh = fresh[: min(most, self.capacity - len(self))]
        self.take(fresh)
        return len(fresh)

    def take(self, names: Iterable[str]) -> None:
        """Read these samples, in this order. Raises OmegaError where one is missing."""
        for name in names:
            self._known.add(name)
            self.members.append(Member.load(self.folder / f"{name}.npz", self.device))

    def draw(self, generator: torch.Generator) -> Member:
        return self.members[int(torch.randint(len(self.members), (1,), generator=generator))]


def moved(sample: AvatarSample, device: torch.device | str) -> AvatarSample:
    """The sample on another device."""

    def at(value: object) -> object:
        if isinstance(value, Fit):
            return Fit(value.texels.to(device), value.vertices.to(device))
        return value.to(device) if isinstance(value, (Tensor, HeadParams)) else value

    targets = replace(
        sample.targets, **{f.name: at(getattr(sample.targets, f.name)) for f in fields(sample.targets)}
    )
    plain = {f.name: at(getattr(sample, f.name)) for f in fields(sample) if f.name != "targets"}
    return replace(sample, targets=targets, **plain)
