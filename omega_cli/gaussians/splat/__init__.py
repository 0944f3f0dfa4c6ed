"""Gaussians seen by a camera: one `render` over gsplat (CUDA), our native CPU kernels, plain torch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from omega_cli.gaussians.model import Gaussians
from omega_cli.geometry.camera import Camera

__all__ = ["BACKENDS", "RenderOutput", "render"]

BACKENDS = ("auto", "gsplat", "native", "torch")


@dataclass(frozen=True)
class RenderOutput:
    """image [C, H, W]; alpha [H, W] in [0, 1]; depth [H, W] m or None; the backend that drew it.

    depth is the expected camera depth of what is seen (blend-weighted mean), 0 where alpha is 0.
    """

    image: Tensor
    alpha: Tensor
    depth: Tensor | None
    backend: str


def render(
    gaussians: Gaussians,
    camera: Camera,
    *,
    background: Tensor | None = None,  # [C], default black
    backend: str = "auto",
    with_depth: bool = False,
) -> RenderOutput:
    """Draw Gaussians front to back; pinhole or orthographic, any number of channels.

    backend: auto is gsplat for CUDA tensors (plain torch where gsplat is missing), native for float32
    on the CPU, torch for the rest; the chosen one is named in the output. Differentiable with respect
    to every field of `gaussians` and to `background`, not to the camera. Rules and limits of the
    gradient: `kernels.gaussian_raster.rasterize_gaussians`. Raises OmegaError when the named backend
    is not available.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    channels = gaussians.colors.shape[1]
    if background is not None and tuple(background.shape) != (channels,):
        raise ValueError(f"background must be [{channels}], got {tuple(background.shape)}")
    from omega_cli.gaussians.splat import gsplat_backend, native, torch_reference

    if backend == "auto":
        backend = gsplat_backend.preferred(gaussians) or native.preferred(gaussians)
    drawers = {"gsplat": gsplat_backend.draw, "native": native.draw, "torch": torch_reference.draw}
    drawn = gaussians
    if with_depth:  # depth is one more colour
        depths = camera.to_camera(gaussians.means)[:, 2:]
        colors = torch.cat([gaussians.colors, depths], dim=1)
        drawn = Gaussians(gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, colors)
    image, alpha = drawers[backend](drawn, camera)
    depth = None
    if with_depth:
        depth = torch.where(alpha > 0, image[channels] / alpha.clamp_min(1e-6), 0.0)
        image = image[:channels]
    if background is not None:
        image = image + (1 - alpha) * background.to(image)[:, None, None]
    return RenderOutput(image, alpha, depth, backend)
