"""What the readers of the data sets share: files that must be there, calibrations, pixels, lenses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from omega_cli.errors import OmegaError


def need(path: Path, what: str, hint: str) -> Path:
    """`path` if it is there; else an error that says what of the data set is missing."""
    if not path.exists():
        raise OmegaError(f"{path} is missing ({what}).", hint)
    return path


def read_json(path: Path, what: str, hint: str) -> Any:
    """A JSON file of a data set."""
    need(path, what, hint)
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise OmegaError(f"{path} ({what}) cannot be read as JSON: {error}.", hint) from error


def matrix(value: Any, shape: tuple[int, int], what: str, path: Path) -> np.ndarray:
    """A finite matrix of a calibration file, float64."""
    try:
        found = np.asarray(value, np.float64)
    except (ValueError, TypeError):
        found = np.empty(0)
    if found.shape != shape or not np.isfinite(found).all():
        raise OmegaError(
            f"{what} in {path} is no {shape[0]}×{shape[1]} matrix of numbers.",
            "The file is damaged or of another version of the data set; fetch it again.",
        )
    return found


def rigid(value: np.ndarray, what: str, path: Path) -> np.ndarray:
    """A world -> camera matrix [4, 4], checked: a rotation, 0 0 0 1 below (not so when transposed)."""
    R = value[:3, :3]
    fine = np.allclose(value[3], [0, 0, 0, 1], atol=1e-6)
    if not (fine and np.allclose(R @ R.T, np.eye(3), atol=1e-3) and np.linalg.det(R) > 0):
        raise OmegaError(
            f"{what} in {path} is no rotation with a translation in its last column.",
            "The file is of another version of the data set than this reader knows, or damaged.",
        )
    return value


def picture(pixels: np.ndarray) -> Tensor:  # [H, W, C] or [H, W] uint8 -> [C, H, W] in [0, 1]
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(planes)).float() / 255


def to_linear(srgb: Tensor) -> Tensor:
    """sRGB's transfer curve undone (IEC 61966-2-1)."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb.clamp_min(0) + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: Tensor) -> Tensor:
    """Linear light to sRGB, clamped to [0, 1]."""
    x = linear.clamp(0, 1)
    return torch.where(x <= 0.0031308, 12.92 * x, 1.055 * x.clamp_min(1e-9) ** (1 / 2.4) - 0.055)


class Lens:
    """Radial and tangential distortion removed: the picture that a pinhole of the same K would take.

    K [3, 3] px with pixel centres at +0.5; distortion: OpenCV's k1 k2 p1 p2 [k3 [k4 k5 k6]].
    """

    def __init__(self, K: np.ndarray, distortion: np.ndarray, width: int, height: int) -> None:
        self.K, self.distortion, self.size = K, distortion, (width, height)
        self._maps: tuple[np.ndarray, np.ndarray] | None = None

    def straighten(self, pixels: np.ndarray, *, labels: bool = False) -> np.ndarray:
        """[H, W] or [H, W, C] uint8 resampled, 0 where the lens saw nothing; labels are not mixed."""
        if not self.distortion.any():
            return pixels
        import cv2

        # cubic keeps detail: the linear filter would blur the truth
        how = cv2.INTER_NEAREST if labels else cv2.INTER_CUBIC
        straight = cv2.remap(pixels, *self._where(), how, borderMode=cv2.BORDER_REPLICATE)
        straight[~self._inside()] = 0
        return straight

    def seen(self) -> Tensor | None:
        """[1, H, W]: 1 where the straightened picture has a measurement; None: everywhere."""
        return torch.from_numpy(self._inside())[None].float() if self.distortion.any() else None

    def _where(self) -> tuple[np.ndarray, np.ndarray]:
        """For every straight pixel, where the lens threw it: x, y [H, W] with whole numbers at centres."""
        if self._maps is None:
            import cv2

            K = self.K.copy()
            K[:2, 2] -= 0.5  # OpenCV's pixel centres lie at whole numbers
            self._maps = cv2.initUndistortRectifyMap(K, self.distortion, None, K, self.size, cv2.CV_32FC1)
        return self._maps

    def _inside(self) -> np.ndarray:
        (x, y), (width, height) = self._where(), self.size
        return (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
