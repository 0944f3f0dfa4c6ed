"""Bilinear splatting of point values into a UV map (paper Eq. 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from omega_cli.kernels import _backend, reference
from omega_cli.kernels._backend import integer, pointer
from omega_cli.kernels._ops import cpu_operator


def uv_splat(
    values: Tensor,  # [B, P, C]
    uv: Tensor,  # [B, P, 2] in [0, 1], origin top left
    size: tuple[int, int],  # H, W
    *,
    backend: str = "auto",
) -> Tensor:  # [B, C, H, W]
    """Sum each point into its four nearest texels with bilinear weights: sums, not means (Eq. 4).

    A uv of ((i + 1/2) / W, (j + 1/2) / H) lands wholly in texel (i, j). What falls outside the map is
    dropped, as is a point whose uv is not finite; a value that is not finite reaches only the texels in
    which it has a weight. Splat `[features | 1]` to get the density along with the sums.

    Differentiable to both inputs. The gradient to `uv` is that of the bilinear weights; it jumps where a
    point crosses the line between two texel centres (there it is the one to the right or below) and
    says nothing about points entering the map. The native sum has the same bits for any number of
    threads. The result is laid out channels last in memory.

    backend: auto, native (float32 on the CPU), torch.
    """
    if values.ndim != 3 or uv.shape != (*values.shape[:2], 2):
        raise ValueError(
            f"values must be [B, P, C] and uv [B, P, 2], got {tuple(values.shape)}, {tuple(uv.shape)}"
        )
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"size must be positive, got {size}")
    if _backend.choose(backend, values, uv) == "native":
        out = _uv_splat(values, uv, height, width)
    else:
        out = reference.uv_splat(values, uv, (height, width))
    return out.permute(0, 3, 1, 2)


@cpu_operator("uv_splat")
def _uv_splat(values: Tensor, uv: Tensor, height: int, width: int) -> Tensor:
    values, uv = values.contiguous(), uv.contiguous()
    B, P, C = values.shape
    out = values.new_empty(B, height, width, C)
    _backend.library().omega_uv_splat(
        *map(integer, (B, P, C)),
        pointer(values),
        pointer(uv),
        integer(height),
        integer(width),
        _backend.threads(),
        pointer(out),
    )
    return out


@_uv_splat.register_fake
def _(values: Tensor, uv: Tensor, height: int, width: int) -> Tensor:
    return values.new_empty(values.shape[0], height, width, values.shape[2])


@cpu_operator("uv_splat_backward")
def _uv_splat_backward(values: Tensor, uv: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    values, uv, grad = values.contiguous(), uv.contiguous(), grad.contiguous()
    (B, P, C), (height, width) = values.shape, grad.shape[1:3]
    grad_values, grad_uv = torch.empty_like(values), torch.empty_like(uv)
    _backend.library().omega_uv_splat_backward(
        *map(integer, (B, P, C)),
        pointer(values),
        pointer(uv),
        pointer(grad),
        integer(height),
        integer(width),
        _backend.threads(),
        pointer(grad_values),
        pointer(grad_uv),
    )
    return grad_values, grad_uv


@_uv_splat_backward.register_fake
def _(values: Tensor, uv: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    return values.new_empty(values.shape), uv.new_empty(uv.shape)


def _save(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:2])


def _grads(ctx, grad: Tensor):
    return *_uv_splat_backward(*ctx.saved_tensors, grad), None, None


_uv_splat.register_autograd(_grads, setup_context=_save)
