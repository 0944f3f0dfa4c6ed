"""From rendered images to film frames, with the renderer and the encoder working side by side."""

from __future__ import annotations

import collections
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from omega_cli.gaussians.splat import RenderOutput
from omega_cli.geometry.camera import Camera
from omega_cli.head.params import HeadParams
from omega_cli.render import orbit
from omega_cli.render.rig import Rig

CHUNK = 32  # frames animated at once: 32 x 10 k vertices is 4 MB
BACKGROUNDS = {"grey": (0.86, 0.86, 0.86), "white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}
Item = TypeVar("Item")


def background_color(name: str) -> Tensor:
    """sRGB [3] of a named background; "transparent" films over grey, because video has no alpha."""
    return torch.tensor(BACKGROUNDS.get(name, BACKGROUNDS["grey"]))


def to_bytes(image: Tensor) -> np.ndarray:
    """[C, H, W] in [0, 1] -> uint8 [H, W, C], clipped and rounded."""
    # numpy, in one thread: beside a busy renderer torch's thread team costs more than it brings
    pixels = image.detach().cpu().numpy() * np.float32(255)
    pixels += np.float32(0.5)
    np.clip(pixels, 0, 255, out=pixels)
    return np.ascontiguousarray(pixels.astype(np.uint8).transpose(1, 2, 0))


def from_bytes(pixels: np.ndarray) -> Tensor:
    """uint8 [H, W, C] -> [C, H, W] in [0, 1]."""
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


@torch.no_grad()
def drawn(
    rig: Rig,
    motion: HeadParams,  # T frames
    cameras: Sequence[Camera],  # T
    background: Tensor | None = None,  # [3]
    backend: str = "auto",
) -> Iterator[RenderOutput]:
    """The moving avatar, frame by frame; the head is animated for many frames at once."""
    device = rig.shaped.device
    cameras = orbit.on_device(cameras, device)
    background = None if background is None else background.to(device)
    for start in range(0, len(motion), CHUNK):
        part = slice(start, start + CHUNK)
        for vertices, camera in zip(rig.vertices(motion.frames(part)), cameras[part], strict=True):
            yield rig.draw(rig.pose(vertices), camera, background=background, backend=backend)


@torch.no_grad()
def pixels_of(images: Iterable[Tensor], depth: int = 4) -> Iterator[np.ndarray]:
    """uint8 [H, W, C] of each image [C, H, W] in [0, 1].

    Images on a GPU become bytes there and are copied through pinned memory while the next `depth` are
    drawn: nothing waits for a picture that is not needed yet.
    """
    coming: collections.deque[tuple[Tensor, torch.cuda.Event]] = collections.deque()
    for image in images:
        if not image.is_cuda:
            yield to_bytes(image)
            continue
        coming.append(_send(image))
        if len(coming) > depth:
            yield _receive(*coming.popleft())
    while coming:
        yield _receive(*coming.popleft())


def _send(image: Tensor) -> tuple[Tensor, torch.cuda.Event]:
    pixels = (image * 255).add_(0.5).clamp_(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous()
    here = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=True)
    here.copy_(pixels, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()
    return here, arrived


def _receive(here: Tensor, arrived: torch.cuda.Event) -> np.ndarray:
    arrived.synchronize()
    return here.numpy()


def to_rgba(image: Tensor, alpha: Tensor) -> Tensor:
    """Picture over black [3, H, W] and alpha [H, W] -> straight-alpha RGBA [4, H, W]."""
    straight = image / alpha.clamp_min(1.0 / 255)
    return torch.cat([straight.clamp(0, 1), alpha[None].clamp(0, 1)])


def ahead(items: Iterable[Item], depth: int = 6) -> Iterator[Item]:
    """The same items, made up to `depth` ahead in a second thread (torch and the kernels drop the GIL).

    An error in the maker is raised here, at its place. Closing early stops the maker at its next item.
    """
    box: queue.Queue = queue.Queue(maxsize=depth)
    stop = threading.Event()
    end = object()

    def put(what: object) -> bool:
        while not stop.is_set():
            try:
                box.put(what, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((end, None))
        except BaseException as error:
            put((end, error))

    maker = threading.Thread(target=make, name="film-maker", daemon=True)
    maker.start()
    try:
        while True:
            item, error = box.get()
            if error is not None:
                raise error
            if item is end:
                return
            yield item
    finally:
        stop.set()
        maker.join(timeout=10)
