"""From rendered images to film frames, with the renderer and the encoder working side by side."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

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
