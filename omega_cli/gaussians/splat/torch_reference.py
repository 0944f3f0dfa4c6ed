"""The plain torch rasteriser: any device, any float type; the meaning of the others, and slow."""

from __future__ import annotations

from torch import Tensor

from omega_cli.gaussians.model import Gaussians
from omega_cli.gaussians.splat import native
from omega_cli.geometry.camera import Camera


def draw(gaussians: Gaussians, camera: Camera) -> tuple[Tensor, Tensor]:
    """image [C, H, W] over black, alpha [H, W]."""
    return native.draw(gaussians, camera, backend="torch")
