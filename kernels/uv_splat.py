"""Bilinear splatting of point values into a UV map (paper Eq. 4), at one level or a pyramid of them."""

from __future__ import annotations

from ctypes import Array, c_int, c_int64

import torch
from torch import Tensor

from omega_cli.kernels import _backend, reference
from omega_cli.kernels._backend import integer, pointer
from omega_cli.kernels._ops import cpu_operator

FEATURE_TYPES = (torch.float32, torch.float16, torch.bfloat16)  # the CUDA library's numbers for them
MOST_LEVELS = 12
MOST_EXTRA = 2  # columns that CUDA takes apart from the values; more of them are joined to the values


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
    which it has a weight. Half and bfloat16 values are summed in float32, which is what comes out; their
    gradient has their own type.

    Differentiable to both inputs. The gradient to `uv` is that of the bilinear weights; it jumps where a
    point crosses the line between two texel centres (there it is the one to the right or below) and
    says nothing about points entering the map. The native sum has the same bits in every run, on the CPU
    for any number of threads. The result is laid out channels last in memory.

    backend: auto, native (float32, half or bfloat16 values on the CPU or CUDA), torch.
    """
    (sums, _), *_ = uv_splat_pyramid(values, uv, size, 1, backend=backend)
    return sums


def uv_splat_pyramid(
    values: Tensor,  # [B, P, C]
    uv: Tensor,  # [B, P, 2]
    size: tuple[int, int],  # H, W of level 0
    levels: int,
    *,
    weight: Tensor | None = None,  # [B, P]
    extra: Tensor | None = None,  # [B, P, E]
    backend: str = "auto",
) -> list[tuple[Tensor, Tensor | None]]:
    """`uv_splat` and its coarser levels: (sums [B, C, h, w], extra sums [B, E, h, w] or None) of each.

    Level 0 is `uv_splat`; a texel of level l + 1 is the sum of the two by two texels of level l that it
    covers (the "pull" of pull-push, Gortler et al. 1996, 6.1; docs/paper.md). So a point enters a coarse
    texel with the sum of its bilinear weights in the texels below, every level has the same mass, and what is
    not finite reaches the coarse texels over its own. The gradient at level 0 is the sum of the levels'
    gradients, each repeated over the texels below.

    weight scales each point's whole contribution, a point of weight 0 is not there. extra are further
    float32 columns that are summed like the values: ones give the density D, cosines the confidence C of
    paper 3.3. Differentiable to values, uv, weight and extra. All is done by one operator. H and W must be
    divisible by 2^(levels - 1).
    """
    _check(values, uv, size, levels, weight, extra)
    if values.dtype in FEATURE_TYPES[1:] and (values.device.type != "cuda" or backend == "torch"):
        values = values.float()  # only the CUDA library reads them as they are
    floats = [
        t for t in (None if values.dtype in FEATURE_TYPES[1:] else values, uv, weight, extra) if t is not None
    ]
    native = _backend.choose(backend, *floats) == "native"
    if native and extra is not None and extra.shape[2] > MOST_EXTRA:
        pairs = uv_splat_pyramid(torch.cat([values.float(), extra], -1), uv, size, levels, weight=weight)
        return [(both[:, : values.shape[2]], both[:, values.shape[2] :]) for both, _ in pairs]
    if native:
        outs = _uv_splat_levels(values, uv, weight, extra, *size, levels)
    else:
        outs = []
        for columns in (values, extra):
            if columns is not None:
                weighted = _times(columns, weight)
                outs.append(reference.uv_splat(weighted, uv.to(weighted), size))
                for _ in range(levels - 1):
                    outs.append(reference.pool(outs[-1]))
    images = [out.permute(0, 3, 1, 2) for out in outs]
    return list(zip(images[:levels], images[levels:] or [None] * levels, strict=True))


def _times(columns: Tensor, weight: Tensor | None) -> Tensor:
    """A point of weight 0 adds nothing, not even a NaN."""
    if weight is None:
        return columns
    weight = weight[..., None]
    return torch.where((weight == 0) & ~columns.isfinite(), 0.0, columns) * weight


def _check(
    values: Tensor,
    uv: Tensor,
    size: tuple[int, int],
    levels: int,
    weight: Tensor | None,
    extra: Tensor | None,
) -> None:
    if values.ndim != 3 or uv.shape != (*values.shape[:2], 2):
        raise ValueError(
            f"values must be [B, P, C] and uv [B, P, 2], got {tuple(values.shape)}, {tuple(uv.shape)}"
        )
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"size must be positive, got {size}")
    if not 1 <= levels <= MOST_LEVELS or height % (1 << (levels - 1)) or width % (1 << (levels - 1)):
        raise ValueError(f"size {size} must be divisible by 2^(levels - 1), got levels = {levels}")
    if weight is not None and weight.shape != values.shape[:2]:
        raise ValueError(f"weight must be [B, P], got {tuple(weight.shape)} for values {tuple(values.shape)}")
    if extra is not None and (extra.ndim != 3 or extra.shape[:2] != values.shape[:2]):
        raise ValueError(
            f"extra must be [B, P, E], got {tuple(extra.shape)} for values {tuple(values.shape)}"
        )
    B, P, C = values.shape
    cells = (height + 1) * (width + 1)  # between the texel centres
    _backend.refuse_beyond(2**31, points=B * P, texels=B * cells, channels=C * 32)


# The operators: the sums of all levels come first, then the extra sums of all levels.


@cpu_operator("uv_splat_levels")
def _uv_splat_levels(
    values: Tensor,
    uv: Tensor,
    weight: Tensor | None,
    extra: Tensor | None,
    height: int,
    width: int,
    levels: int,
) -> list[Tensor]:
    inputs = _backend.contiguous(values, uv, weight, extra)
    outs = _level_maps(values, uv, weight, extra, height, width, levels)
    _backend.library().omega_uv_splat(
        *_counts(values, extra),
        *map(pointer, inputs),
        *_sizes(height, width, levels),
        _backend.threads(),
        *_level_pointers(outs, levels),
    )
    return outs


@_uv_splat_levels.register_cuda
def _(values, uv, weight, extra, height: int, width: int, levels: int) -> list[Tensor]:
    inputs = _backend.contiguous(_backend.aligned(values), uv, weight, extra)
    outs = _level_maps(values, uv, weight, extra, height, width, levels)
    counts, sizes = _counts(values, extra), _sizes(height, width, levels)
    library = _backend.library("cuda")
    library.omega_cuda_uv_splat_workspace.restype = c_int64
    needed = library.omega_cuda_uv_splat_workspace(*counts[:2], *sizes[:2])
    scratch = torch.empty(needed, dtype=torch.uint8, device=values.device)
    _backend.call_cuda(
        "omega_cuda_uv_splat",
        values,
        c_int(FEATURE_TYPES.index(values.dtype)),
        *counts,
        *map(pointer, inputs),
        *sizes,
        pointer(scratch),
        *_level_pointers(outs, levels),
    )
    return outs


@_uv_splat_levels.register_fake
def _level_maps(values, uv, weight, extra, height: int, width: int, levels: int) -> list[Tensor]:
    columns = [values.shape[2]] if extra is None else [values.shape[2], extra.shape[2]]
    return [
        values.new_empty(len(values), height >> level, width >> level, count, dtype=torch.float32)
        for count in columns
        for level in range(levels)
    ]


def _counts(values: Tensor, extra: Tensor | None) -> list[c_int64]:  # B, P, C, E
    return [integer(n) for n in (*values.shape, 0 if extra is None else extra.shape[2])]


def _sizes(height: int, width: int, levels: int) -> tuple[c_int64, c_int64, c_int]:
    return integer(height), integer(width), c_int(levels)


def _level_pointers(maps: list[Tensor], levels: int) -> tuple[Array, Array]:
    return _backend.pointers(maps[:levels]), _backend.pointers(maps[levels:])


@cpu_operator("uv_splat_levels_backward")
def _uv_splat_levels_backward(
    grads: list[Tensor],
    values: Tensor,
    uv: Tensor,
    weight: Tensor | None,
    extra: Tensor | None,
    height: int,
    width: int,
    levels: int,
    wanted: list[bool],  # of the four inputs; the gradient of another is empty
) -> list[Tensor]:
    inputs, grads = _backend.contiguous(values, uv, weight, extra), [grad.contiguous() for grad in grads]
    outs = _input_grads(grads, values, uv, weight, extra, height, width, levels, wanted)
    _backend.library().omega_uv_splat_backward(
        *_counts(values, extra),
        *map(pointer, inputs),
        *_sizes(height, width, levels),
        _backend.threads(),
        *_level_pointers(grads, levels),
        *(pointer(out if want else None) for out, want in zip(outs, wanted, strict=True)),
    )
    return outs


@_uv_splat_levels_backward.register_cuda
def _(grads, values, uv, weight, extra, height: int, width: int, levels: int, wanted: list[bool]):
    inputs = _backend.contiguous(_backend.aligned(values), uv, weight, extra)
    grads = [_backend.aligned(grad) for grad in grads]
    outs = _input_grads(grads, values, uv, weight, extra, height, width, levels, wanted)
    _backend.call_cuda(
        "omega_cuda_uv_splat_backward",
        values,
        c_int(FEATURE_TYPES.index(values.dtype)),
        *_counts(values, extra),
        *map(pointer, inputs),
        *_sizes(height, width, levels),
        *_level_pointers(grads, levels),
        *(pointer(out if want else None) for out, want in zip(outs, wanted, strict=True)),
    )
    return outs


@_uv_splat_levels_backward.register_fake
def _input_grads(grads, values, uv, weight, extra, height: int, width: int, levels: int, wanted: list[bool]):
    return [
        t.new_empty(t.shape) if t is not None and want else values.new_empty(0)
        for t, want in zip((values, uv, weight, extra), wanted, strict=True)
    ]


def _save(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.sizes = inputs[4:]


def _grads(ctx, grads: list[Tensor]):
    wanted = [t is not None and n for t, n in zip(ctx.saved_tensors, ctx.needs_input_grad[:4], strict=True)]
    outs = _uv_splat_levels_backward(grads, *ctx.saved_tensors, *ctx.sizes, wanted)
    return *(out if want else None for out, want in zip(outs, wanted, strict=True)), None, None, None


_uv_splat_levels.register_autograd(_grads, setup_context=_save)
