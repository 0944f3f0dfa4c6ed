"""The driver: its tracked motion with its neutral, and its pictures at the side. Pure maths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from omega_cli.head.params import HeadParams


@dataclass(frozen=True, eq=False)
class DriverMotion:
    """What a driver does: T frames of parameters, its neutral (1 frame), and where they come from.

    times [T] s from the film's start; valid [T] bool: frames in which the face was found. film: the
    file with pictures and sound, None for a motion file. weights: registry name -> sha256.
    """

    params: HeadParams
    neutral: HeadParams
    fps: float
    times: Tensor
    valid: Tensor
    film: Path | None
    weights: dict[str, str]


def letterbox(pixels: np.ndarray, size: int) -> np.ndarray:
    """A picture [H, W, 3] uint8 fitted whole into a black square of `size` pixels."""
    height, width = pixels.shape[:2]
    scale = size / max(height, width)
    new = (max(1, round(height * scale)), max(1, round(width * scale)))
    image = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float()
    if new != (height, width):
        image = torch.nn.functional.interpolate(
            image, new, mode="bilinear", align_corners=False, antialias=scale < 1
        )
    fitted = (image[0].permute(1, 2, 0) + 0.5).clamp(0, 255).to(torch.uint8).numpy()
    out = np.zeros((size, size, 3), np.uint8)
    top, left = (size - new[0]) // 2, (size - new[1]) // 2
    out[top : top + new[0], left : left + new[1]] = fitted
    return out
