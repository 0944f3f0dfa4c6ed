"""Driving accuracy: the avatar does what a truth does; does the tracker read the same from both?

The truth's picture of another instant is tracked; the avatar is given the expression, the pose and the place
that were found, drawn by the tracker's own camera, and tracked again. AED, APD and AKD
compare the two trackings; the tracker's own error is in them, for all avatars alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from omega_cli.errors import OmegaError
from omega_cli.head.model import HeadModel
from omega_cli.metrics.driving import aed, akd, apd
from omega_cli.render.film import to_bytes
from omega_cli.render.rig import Rig
from omega_cli.track.image_io import Photo
from omega_cli.track.portrait import Networks, TrackedImage, track_photo

BACKDROP = 0.5  # grey behind tracked pictures, truth and avatar alike: black hair is seen on it


@dataclass(frozen=True)
class Driver:
    """One truth that drives: where it is from, and what the tracker finds in it."""

    sequence: str
    frame: int
    tracked: TrackedImage


def tracked(picture: Tensor, model: HeadModel, networks: Networks, name: str) -> TrackedImage:
    """The head in a picture [3, H, W] in [0, 1]. Raises OmegaError where the tracker refuses it."""
    rgb = to_bytes(picture)
    return track_photo(Photo(rgb, None, (rgb.shape[1], rgb.shape[0])), model, networks, name=name)


def drive(rig: Rig, driver: Driver, head: HeadModel, networks: Networks) -> dict[str, float | None]:
    """aed, apd (rad) and akd (px of 512) of one driven avatar; None where its face is not found again.

    head: the model on the CPU, for the tracker; the rig may be elsewhere.
    """
    truth = driver.tracked
    device = rig.shaped.device
    # as large in the picture as the truth, whatever size the avatar's own head has
    size = rig.params.scale.cpu()
    motion = truth.params.replace(transl=truth.params.transl * size / truth.params.scale, scale=size)
    motion = motion.to(device)
    with torch.no_grad():
        drawn = rig.draw(rig.pose(rig.vertices(motion)[0]), truth.camera.to(device))
        image = drawn.image.cpu() + BACKDROP * (1 - drawn.alpha.cpu())
    try:
        again = tracked(image.clamp(0, 1), head, networks, "the driven avatar")
    except OmegaError:
        return {"aed": None, "apd": None, "akd": None}
    # the second crop was cut from the picture of the first one: back to that picture's pixels
    points = (again.points68 - np.asarray(again.crop["shift"])) / again.crop["scale"]
    return {
        "aed": float(aed(truth.params, again.params)[0]),
        "apd": float(apd(truth.params, again.params)[0]),
        "akd": float(akd(_batch(truth.points68), _batch(points), truth.camera.width)[0]),
    }


def _batch(points: np.ndarray) -> Tensor:  # [L, 2] -> [1, L, 2]
    return torch.from_numpy(points).float()[None]
