"""Samples of the avatar network in memory, with what of them does not change while the network learns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from omega_cli.avatar import layout
from omega_cli.decode.analytic import Decoded
from omega_cli.geometry.camera import Camera
from omega_cli.head.model import HeadModel
from omega_cli.head.params import HeadParams
from omega_cli.model import Avatar, OmegaModel
from omega_cli.mv_diffuse.config import MvDiffuseConfig
from omega_cli.mv_diffuse.views import canonical_cameras
from omega_cli.splat_uv.agreement import agreement_table
from omega_cli.splat_uv.config import VIEW_WEIGHTS
from omega_cli.splat_uv.stage import Photo, Views
from omega_cli.train.avatar.samples import SOURCE, AvatarSample


@dataclass
class Member:
    """One sample on the device; base: the analytic decoder's answer, once it was asked."""

    name: str
    sample: AvatarSample
    base: Decoded | None = None

    @staticmethod
    def load(path: Path, device: torch.device | str) -> Member:
        """Raises OmegaError where there is no such file."""
        return Member(path.stem, moved(AvatarSample.load(path), device))

    @property
    def frame(self) -> HeadParams:
        """The fitted head in the views' frame, T = 1."""
        return self.sample.params

    def views(self) -> Views:
        """As splat-uv loads them."""
        sample, device = self.sample, self.sample.rgb.device
        size = sample.rgb.shape[-1]
        cameras = [c.to(device) for c in canonical_cameras(size, MvDiffuseConfig().half_extent)]
        rgb, mask = sample.rgb.float() / 255, sample.mask.float() / 255
        weights = torch.tensor([VIEW_WEIGHTS[azimuth] for azimuth in layout.AZIMUTHS], device=device)
        return Views(cameras, list(rgb), list(mask), weights)

    def photo(self, model: HeadModel) -> Photo:
        """What the photo's parsing forbids, as splat-uv reads it."""
        labels = self.sample.labels.long()
        stands = self.sample.targets.frames.frame(int((self.sample.targets.kind == SOURCE).nonzero()[0, 0]))
        camera = Camera(self.sample.K, self.sample.viewmat, labels.shape[1], labels.shape[0])
        return Photo(
            labels.clamp_max(len(layout.PARSING_LABELS) - 1), model(stands, self.sample.offsets).vertices[0],
            camera, agreement_table(layout.PARSING_LABELS).to(labels.device),
        )  # fmt: skip


def avatar_of(model: OmegaModel, member: Member) -> tuple[Avatar, Views]:
    """A sample's avatar with the model's weights, and the views it was made of. The analytic part is kept."""
    views = member.views()
    known = member.frame, member.sample.offsets
    uv_map, identity = model.canonical_map(*known, views, member.photo(model.head))
    if member.base is None:
        member.base = model.analytic(*known, uv_map)
    return model.avatar(*known, uv_map, identity, member.base), views


class AvatarPool:
    """The samples (.npz) of a folder, read as they come, up to `capacity`; further ones are left alone.

    `names` says in which order they came; a pool that `take`s these first draws the same ones again.
    """

    def __init__(self, folder: Path, capacity: int, device: torch.device | str) -> None:
        self.folder, self.capacity, self.device = folder, capacity, device
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
        return value.to(device) if isinstance(value, (Tensor, HeadParams)) else value

    targets = replace(
        sample.targets, **{f.name: at(getattr(sample.targets, f.name)) for f in fields(sample.targets)}
    )
    plain = {f.name: at(getattr(sample, f.name)) for f in fields(sample) if f.name != "targets"}
    return replace(sample, targets=targets, **plain)
