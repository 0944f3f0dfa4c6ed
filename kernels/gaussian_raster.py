"""Gaussian rasterisation on the CPU: gsplat's counterpart, forward and backward, any channel count.

Three native steps, each a torch operator: project (Gaussians -> image splats), bin (which tiles, in
depth order), blend (splats -> image). `gaussian_reference.py` says what they mean.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from omega_cli.kernels import _backend
from omega_cli.kernels import gaussian_reference as reference
from omega_cli.kernels._backend import integer, pointer, real
from omega_cli.kernels._ops import cpu_operator


def rasterize_gaussians(
    means: Tensor,  # [N, 3] m
    quats: Tensor,  # [N, 4] wxyz, any length but zero
    scales: Tensor,  # [N, 3] m, standard deviations
    opacities: Tensor,  # [N] in [0, 1]
    colors: Tensor,  # [N, C]
    viewmat: Tensor,  # [4, 4] world -> camera
    K: Tensor,  # [3, 3] px
    width: int,
    height: int,
    *,
    camera_model: str = "pinhole",
    near_plane: float = 0.01,
    eps2d: float = 0.3,
    backend: str = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """Blend Gaussians front to back: (image [C, H, W] over black, alpha [H, W], splats [N, 8]).

    Names and rules are gsplat's ("pinhole" or "ortho", EWA with `eps2d` px^2 of blur, alpha cut at
    1/255 and clamped at 0.999, transmittance stop at 1e-4). Gaussians of equal depth keep their order.
    One that is not finite, its colour included, is not drawn and gets no gradient. Colours in half or
    bfloat16 are blended in float32, which is what comes out; their gradient has their own type. The
    splats are (x, y, conic a, b, c, depth, box half sizes); zero rows were not seen.

    Gradients go to means, quats, scales, opacities and colors; the camera gets none. They are those of
    the formula where it is smooth: at the alpha cut and at the stop the image jumps, which no gradient
    tells. The result does not depend on the number of threads.
    """
    N = means.shape[0]
    expected = {"means": (N, 3), "quats": (N, 4), "scales": (N, 3), "opacities": (N,)}
    for (name, shape), tensor in zip(expected.items(), (means, quats, scales, opacities), strict=True):
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must be {shape}, got {tuple(tensor.shape)}")
    if colors.ndim != 2 or colors.shape[0] != N or colors.shape[1] < 1:
        raise ValueError(f"colors must be [{N}, C] with C >= 1, got {tuple(colors.shape)}")
    if camera_model not in ("pinhole", "ortho"):
        raise ValueError(f"camera_model must be pinhole or ortho, got {camera_model!r}")
    if width < 1 or height < 1:
        raise ValueError(f"width and height must be positive, got {width} x {height}")
    _backend.refuse_beyond(
        2**31, gaussians=N, colors=colors.numel(), image_values=width * height * colors.shape[1]
    )
    if colors.dtype in (torch.float16, torch.bfloat16):
        colors = colors.float()
    ortho = camera_model == "ortho"
    viewmat, K = viewmat.detach().to(means), K.detach().to(means)
    inputs = (means, quats, scales, opacities, colors)
    if _backend.choose(backend, *inputs, compiled_for=("cpu",)) == "native":
        view = (viewmat, K, height, width, ortho, near_plane, eps2d)
        splats = _project(means, quats, scales, opacities, *view)
        starts, entries = _bin(splats, height, width)
        image, alpha = _blend(splats, opacities, colors, starts, entries, height, width)
        return image, alpha, splats
    view = reference.View(viewmat, K, height, width, ortho, near_plane, eps2d)
    splats = reference.project(means, quats, scales, opacities, view)
    starts, entries = reference.tile_lists(splats, height, width)
    image, alpha = reference.blend(splats, opacities, colors, starts, entries, height, width)
    return image, alpha, splats


@cpu_operator("gaussian_project")
def _project(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    viewmat: Tensor,
    K: Tensor,
    height: int,
    width: int,
    ortho: bool,
    near_plane: float,
    blur: float,
) -> Tensor:
    inputs = [t.contiguous() for t in (means, quats, scales, opacities, viewmat, K)]
    splats = means.new_empty(len(means), 8)
    _backend.library().omega_gaussian_project(
        integer(len(means)),
        *map(pointer, inputs),
        integer(height),
        integer(width),
        ctypes.c_int(ortho),
        real(near_plane),
        real(blur),
        _backend.threads(),
        pointer(splats),
    )
    return splats


@_project.register_fake
def _(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    viewmat: Tensor,
    K: Tensor,
    height: int,
    width: int,
    ortho: bool,
    near_plane: float,
    blur: float,
) -> Tensor:
    return means.new_empty(means.shape[0], 8)


@cpu_operator("gaussian_project_backward")
def _project_backward(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    viewmat: Tensor,
    K: Tensor,
    splats: Tensor,
    grad_splats: Tensor,
    height: int,
    width: int,
    ortho: bool,
    near_plane: float,
    blur: float,
) -> tuple[Tensor, Tensor, Tensor]:
    inputs = [t.contiguous() for t in (means, quats, scales, viewmat, K)]
    splats, grad_splats = splats.contiguous(), grad_splats.contiguous()
    grads = means.new_empty(means.shape), means.new_empty(quats.shape), means.new_empty(scales.shape)
    _backend.library().omega_gaussian_project_backward(
        integer(len(means)),
        *map(pointer, inputs),
        integer(height),
        integer(width),
        ctypes.c_int(ortho),
        real(near_plane),
        real(blur),
        _backend.threads(),
        pointer(splats),
        pointer(grad_splats),
        *map(pointer, grads),
    )
    return grads


@_project_backward.register_fake
def _(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    viewmat: Tensor,
    K: Tensor,
    splats: Tensor,
    grad_splats: Tensor,
    height: int,
    width: int,
    ortho: bool,
    near_plane: float,
    blur: float,
) -> tuple[Tensor, Tensor, Tensor]:
    return means.new_empty(means.shape), means.new_empty(quats.shape), means.new_empty(scales.shape)


def _save_projection(ctx, inputs, output) -> None:
    means, quats, scales, _, viewmat, K, *ctx.view = inputs
    ctx.save_for_backward(means, quats, scales, viewmat, K, output)


def _projection_grads(ctx, grad_splats: Tensor):
    grads = _project_backward(*ctx.saved_tensors, grad_splats, *ctx.view)
    return *grads, *[None] * 8


_project.register_autograd(_projection_grads, setup_context=_save_projection)


@cpu_operator("gaussian_bin")
def _bin(splats: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    splats = splats.contiguous()
    library, tile = _backend.library(), reference.TILE
    starts = torch.empty(-(-height // tile) * -(-width // tile) + 1, dtype=torch.int64)
    rects = torch.empty(len(splats), 4, dtype=torch.int32)
    library.omega_gaussian_bin_count.restype = ctypes.c_int64
    shared = (integer(len(splats)), pointer(splats), integer(height), integer(width), _backend.threads())
    count = library.omega_gaussian_bin_count(*shared, pointer(rects), pointer(starts))
    _backend.refuse_beyond(2**31, tile_entries=count)
    entries = torch.empty(count, dtype=torch.int32)
    library.omega_gaussian_bin_fill(*shared, pointer(rects), pointer(starts), pointer(entries))
    return starts, entries


@_bin.register_fake
def _(splats: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    tile = reference.TILE
    starts = splats.new_empty(-(-height // tile) * -(-width // tile) + 1, dtype=torch.int64)
    count = torch.library.get_ctx().new_dynamic_size()
    return starts, splats.new_empty(count, dtype=torch.int32)


@cpu_operator("gaussian_blend")
def _blend(
    splats: Tensor,
    opacities: Tensor,
    colors: Tensor,
    starts: Tensor,
    entries: Tensor,
    height: int,
    width: int,
) -> tuple[Tensor, Tensor]:
    inputs = [t.contiguous() for t in (splats, opacities, colors, starts, entries)]
    image, alpha = colors.new_empty(colors.shape[1], height, width), colors.new_empty(height, width)
    _backend.library().omega_gaussian_blend(
        integer(colors.shape[1]),
        *map(pointer, inputs),
        integer(height),
        integer(width),
        _backend.threads(),
        pointer(image),
        pointer(alpha),
    )
    return image, alpha


@_blend.register_fake
def _(
    splats: Tensor,
    opacities: Tensor,
    colors: Tensor,
    starts: Tensor,
    entries: Tensor,
    height: int,
    width: int,
) -> tuple[Tensor, Tensor]:
    return colors.new_empty(colors.shape[1], height, width), colors.new_empty(height, width)


@cpu_operator("gaussian_blend_backward")
def _blend_backward(
    splats: Tensor,
    opacities: Tensor,
    colors: Tensor,
    starts: Tensor,
    entries: Tensor,
    image: Tensor,
    alpha: Tensor,
    grad_image: Tensor,
    grad_alpha: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    inputs = (splats, opacities, colors, starts, entries, image, alpha, grad_image, grad_alpha)
    inputs = [t.contiguous() for t in inputs]
    grads = torch.empty_like(inputs[0]), torch.empty_like(inputs[1]), torch.empty_like(inputs[2])
    N, C, height, width = len(splats), *image.shape
    _backend.library().omega_gaussian_blend_backward(
        integer(N),
        integer(C),
        *map(pointer, inputs),
        integer(height),
        integer(width),
        _backend.threads(),
        *map(pointer, grads),
    )
    return grads


@_blend_backward.register_fake
def _(
    splats: Tensor,
    opacities: Tensor,
    colors: Tensor,
    starts: Tensor,
    entries: Tensor,
    image: Tensor,
    alpha: Tensor,
    grad_image: Tensor,
    grad_alpha: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        splats.new_empty(splats.shape),
        opacities.new_empty(opacities.shape),
        colors.new_empty(colors.shape),
    )


def _save_blend(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:5], *output)


def _blend_grads(ctx, grad_image: Tensor, grad_alpha: Tensor):
    grads = _blend_backward(*ctx.saved_tensors, grad_image, grad_alpha)
    return *grads, None, None, None, None


_blend.register_autograd(_blend_grads, setup_context=_save_blend)
