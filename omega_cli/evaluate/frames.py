"""What a data set's reader hands over: one instant, one source picture, the other cameras as truth.

Every picture is opened when it is asked for. Cameras are pinholes of the picture as handed over (lens
distortion removed), in the data set's own world: OpenCV axes, metres, pixel centres at +0.5.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol as Interface
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from omega_cli.errors import OmegaError
from omega_cli.evaluate.protocol import Protocol
from omega_cli.geometry.camera import Camera

Picture = Callable[[], Tensor]
MaybePicture = Callable[[], Tensor | None]

READERS = {"nersemble": "nersemble", "ava256": "ava256", "valid": "valid", "studio": "studio_set"}
"""Data set to the module of omega_cli.data that reads it."""


def nothing() -> None:
    """The picture that a data set does not have."""
    return None


@dataclass(frozen=True, eq=False)
class View:
    """One camera's picture of one instant.

    image() [3, H, W] in [0, 1] sRGB, not multiplied by the mask; mask() [1, H, W] in [0, 1], 1 on the
    person, None: the data set has none; background() [3, H, W]: the same camera without anybody, for
    matting, or None; seen() [1, H, W]: 0 where the picture holds no measurement (outside the lens's field,
    outside the photo), None: all of it; labels() [1, H, W] long of
    avatar/layout.PARSING_LABELS, None: not known.
    whole, box: the view that this one was cut from, and its square of it (None: it was not).
    """

    camera: Camera
    image: Picture
    mask: MaybePicture = nothing
    background: MaybePicture = nothing
    seen: MaybePicture = nothing
    labels: MaybePicture = nothing
    whole: View | None = None
    box: Box | None = None

    def read(self, background: str) -> Pictures:
        """Everything of the view, each picture asked for once.

        The person is put over the background before it is resampled: colour and mask that are resampled
        apart and multiplied afterwards have dark rims, where both hold a part of the empty surroundings.
        """
        if self.whole is None or self.box is None:
            image, mask = self.image(), self.mask()
            return Pictures(image, compose(image, mask, background), mask, self.seen(), self.labels())
        image, mask, box, size = self.whole.image(), self.whole.mask(), self.box, self.camera.width
        over = image if mask is None else _cut(compose(image, mask, background), box, size)
        image = _cut(image, box, size)
        mask = None if mask is None else _cut(mask, box, size)
        return Pictures(image, image if mask is None else over, mask, self.seen(), self.labels())

    def cropped(self, box: Box, size: int) -> View:
        """The square `box` of this picture at `size` px, and the camera that takes it.

        What lies outside the picture is black, and 0 in mask() and in seen().
        """
        K = self.camera.K.clone()
        K[0, 2] -= box.left
        K[1, 2] -= box.top
        camera = replace(self.camera, K=K, width=box.side, height=box.side).resized(size, size)
        height, width = self.camera.height, self.camera.width

        def cut(picture: MaybePicture) -> MaybePicture:
            def read() -> Tensor | None:
                whole = picture()
                return None if whole is None else _cut(whole, box, size)

            return read

        def image() -> Tensor:
            return _cut(self.image(), box, size)

        def seen() -> Tensor:
            whole = self.seen()
            return _cut(torch.ones(1, height, width) if whole is None else whole, box, size)

        def labels() -> Tensor | None:
            whole = self.labels()
            return None if whole is None else _cut_labels(whole, box, size)

        return View(camera, image, cut(self.mask), cut(self.background), seen, labels, self, box)


@dataclass(frozen=True, eq=False)
class Pictures:
    """What `View.read` gives: `over` [3, H, W] is the person over the protocol's background."""

    image: Tensor
    over: Tensor
    mask: Tensor | None
    seen: Tensor | None
    labels: Tensor | None


@dataclass(frozen=True, eq=False)
class Frame:
    """One instant of one person.

    missing: ids of target cameras that have no picture of it (dropped by the recording), to be counted;
    head_pose [4, 4] head -> world (m) as tracked by the data set, or None; rig_centre [3] m: `rig_centre`
    of all calibrated cameras, whether they have a picture or not (None: of those that are here).
    """

    identity: str
    sequence: str
    frame: int
    source: View
    targets: list[View]
    missing: tuple[str, ...] = ()
    head_pose: Tensor | None = None
    rig_centre: Tensor | None = None

    @property
    def key(self) -> str:
        return f"{self.identity}/{self.sequence}/{self.frame:06d}"


class Reader(Interface):
    """What each module of omega_cli.data named in READERS offers."""

    def freeze(self, root: Path, protocol: Protocol) -> Protocol:
        """The same protocol with every frame named by its number; unchanged if it is so already."""
        ...

    def read(self, root: Path, protocol: Protocol) -> Iterator[Frame]:
        """The protocol's frames, in its order (frozen first where need be)."""
        ...


def reader(dataset: str) -> Reader:
    """The module that reads a data set."""
    if dataset not in READERS:
        raise OmegaError(f"No reader knows the data set {dataset!r}.", f"Known: {', '.join(READERS)}.")
    return cast(Reader, importlib.import_module(f"omega_cli.data.{READERS[dataset]}"))


# --- the square that is compared --------------------------------------------------------------


@dataclass(frozen=True)
class Box:
    """A square of a picture, in whole pixels (so that cropping resamples nothing); may reach outside."""

    left: int
    top: int
    side: int


def rig_centre(cameras: Sequence[Camera]) -> Tensor:  # [3] m
    """The point nearest (least squares) to where all cameras look: a rig is aimed at the head."""
    if len(cameras) < 2:
        raise ValueError("a rig has at least two cameras")
    A, b = torch.zeros(3, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for camera in cameras:
        forward, position = camera.forward.double(), camera.position.double()
        across = torch.eye(3, dtype=torch.float64) - torch.outer(forward, forward)
        A += across
        b += across @ position
    # lstsq: parallel cameras leave the depth open, and the smallest solution will do
    return torch.linalg.lstsq(A, b[:, None]).solution[:, 0].float()


def head_box(camera: Camera, centre: Tensor, radius_m: float) -> Box:
    """The square of `radius_m` (half its side, at the centre's depth) around the point `centre` [3]."""
    pixel, depth = camera.project(centre.float())
    if float(depth) <= 0:
        raise ValueError(f"the head's centre lies behind camera {camera.id}")
    focal = float(camera.K[0, 0] + camera.K[1, 1]) / 2
    half = radius_m * focal / (1.0 if camera.model == "ortho" else float(depth))
    side = max(1, round(2 * half))
    return Box(round(float(pixel[0]) - side / 2), round(float(pixel[1]) - side / 2), side)


def whole_box(camera: Camera) -> Box:
    """The smallest square that holds the whole picture, centred on it."""
    side = max(camera.width, camera.height)
    return Box((camera.width - side) // 2, (camera.height - side) // 2, side)


def standard_views(frame: Frame, protocol: Protocol, centre: Tensor | None = None) -> tuple[View, list[View]]:
    """Source and targets as the protocol compares them: its crop at its size.

    centre [3] m: of the head, where the caller knows better than the protocol's `crop_centre`.
    """
    views = [frame.source, *frame.targets]
    if protocol.crop == "head" and centre is None:
        if protocol.crop_centre == "rig":
            known = frame.rig_centre
            centre = rig_centre([view.camera for view in views]) if known is None else known
        elif frame.head_pose is not None:
            centre = frame.head_pose[:3, 3]
        else:
            raise OmegaError(
                f"{frame.key} has no tracked head pose to crop around.",
                'Give a protocol with "crop_centre": "rig".',
            )
    cropped = []
    for view in views:
        if protocol.crop == "whole" or centre is None:
            box = whole_box(view.camera)
        else:
            box = head_box(view.camera, centre, protocol.crop_radius_m)
        cropped.append(view.cropped(box, protocol.size))
    return cropped[0], cropped[1:]


def compose(image: Tensor, mask: Tensor | None, background: str) -> Tensor:  # [..., 3, H, W]
    """The person over the protocol's background; without a mask, or with "keep", the picture as it is."""
    if mask is None or background == "keep":
        return image
    return image * mask + (0.0 if background == "black" else 1.0) * (1 - mask)


def _cut(picture: Tensor, box: Box, size: int) -> Tensor:  # [C, H, W] -> [C, size, size]
    height, width = picture.shape[-2:]
    square = picture.new_zeros(picture.shape[0], box.side, box.side)
    left, right = max(box.left, 0), min(box.left + box.side, width)
    top, bottom = max(box.top, 0), min(box.top + box.side, height)
    if left < right and top < bottom:
        rows, columns = slice(top - box.top, bottom - box.top), slice(left - box.left, right - box.left)
        square[:, rows, columns] = picture[:, top:bottom, left:right]
    if size == box.side:
        return square
    smooth = functional.interpolate(
        square[None], (size, size), mode="bilinear", align_corners=False, antialias=size < box.side
    )
    return smooth[0].clamp(0, 1)


def _cut_labels(labels: Tensor, box: Box, size: int) -> Tensor:  # [1, H, W] long -> [1, size, size] long
    """The same square of labels, which are not mixed; outside the picture is 0, the background."""
    square = _cut(labels.float(), box, box.side)
    return functional.interpolate(square[None], (size, size), mode="nearest-exact")[0].long()
