"""The C++ tile rasteriser of `kernels/`: float32 on the CPU."""

from __future__ import annotations

from torch import Tensor

from omega_cli.gaussians.model import Gaussians
from omega_cli.geometry.camera import Camera
from omega_cli.kernels import _backend
from omega_cli.kernels.gaussian_raster import rasterize_gaussians


def preferred(gaussians: Gaussians) -> str:
    """ "native" where it can draw these Gaussians on this machine, else "torch" (warns once)."""
    floats = [
        t for t in (gaussians.means, gaussians.colors) if t.dtype.itemsize > 2
    ]  # half is blended in float32
    return _backend.choose("auto", *floats, compiled_for=("cpu",))


def draw(gaussians: Gaussians, camera: Camera, backend: str = "native") -> tuple[Tensor, Tensor]:
    """image [C, H, W] over black, alpha [H, W]. Raises OmegaError where the kernels cannot be built."""
    image, alpha, _ = rasterize_gaussians(
        gaussians.means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        gaussians.colors,
        camera.viewmat,
        camera.K,
        camera.width,
        camera.height,
        camera_model=camera.model,
        backend=backend,
    )
    return image, alpha
