"""gsplat, the CUDA rasteriser, behind our own types. The only file that knows it."""

from __future__ import annotations

import functools
import importlib.util

from torch import Tensor

from omega_cli.errors import OmegaError
from omega_cli.gaussians.model import Gaussians
from omega_cli.geometry.camera import Camera


def preferred(gaussians: Gaussians) -> str | None:
    """ "gsplat" for CUDA tensors where the package is installed, else None."""
    return "gsplat" if gaussians.means.is_cuda and _installed() else None


@functools.cache
def _installed() -> bool:
    return importlib.util.find_spec("gsplat") is not None


def draw(gaussians: Gaussians, camera: Camera) -> tuple[Tensor, Tensor]:
    """image [C, H, W] over black, alpha [H, W]. Raises OmegaError without CUDA or gsplat.

    gsplat compiles its kernels at first use (a minute or two).
    """
    if gaussians.means.device.type != "cuda":
        raise OmegaError(
            f"gsplat draws on CUDA only, the Gaussians are on {gaussians.means.device}",
            "Use --device cuda, or the native backend on the CPU.",
        )
    try:
        from gsplat import rasterization
    except ImportError as error:
        raise OmegaError(
            f"gsplat cannot be imported ({error})", "Run `pip install gsplat`, or use --backend torch."
        ) from error
    image, alpha, _ = rasterization(
        means=gaussians.means,
        quats=gaussians.quats,
        scales=gaussians.scales,
        opacities=gaussians.opacities,
        colors=gaussians.colors.float(),  # half or bfloat16 too
        viewmats=camera.viewmat.to(gaussians.means)[None],
        Ks=camera.K.to(gaussians.means)[None],
        width=camera.width,
        height=camera.height,
        camera_model=camera.model,
        packed=False,
    )
    return image[0].permute(2, 0, 1), alpha[0, ..., 0]
