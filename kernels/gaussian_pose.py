"""Native posing of surface-bound Gaussians; `gaussians.binding` says what it means and calls it."""

from __future__ import annotations

from torch import Tensor

from omega_cli.kernels import _backend
from omega_cli.kernels._backend import integer, pointer
from omega_cli.kernels._ops import cpu_operator


@cpu_operator("gaussian_pose")
def gaussian_pose(
    posed: Tensor,  # [V, 3]
    offsets: Tensor,  # [V] int64
    columns: Tensor,  # [E] int64
    weights_t: Tensor,  # [E]
    weights_b: Tensor,  # [E]
    frame: Tensor,  # [V, 3, 3]
    products: Tensor,  # [V, 4, 6]
    usable: Tensor,  # [V] bool
    corners: Tensor,  # [N, 3] int32, within 0 .. V - 1 (not checked)
    barycentric: Tensor,  # [N, 3]
    shift: Tensor | None,  # [N, 3]
    quats: Tensor,  # [N, 4]
    scales: Tensor,  # [N, 3]
) -> tuple[Tensor, Tensor, Tensor]:
    """Posed means [N, 3], quats [N, 4], scales [N, 3]. float32, CPU or CUDA; no gradient."""
    surface = _backend.contiguous(posed, offsets, columns, weights_t, weights_b, frame, products, usable)
    bound = _backend.contiguous(corners, barycentric, shift, quats, scales)
    table, out = posed.new_empty(len(posed), 16), _outputs(posed, corners, quats, scales)
    _backend.library().omega_gaussian_pose(
        integer(len(posed)),
        integer(len(columns)),
        *map(pointer, surface),
        integer(len(corners)),
        *map(pointer, bound),
        _backend.threads(),
        *map(pointer, (table, *out)),
    )
    return out


@gaussian_pose.register_cuda
def _(
    posed: Tensor,
    offsets: Tensor,
    columns: Tensor,
    weights_t: Tensor,
    weights_b: Tensor,
    frame: Tensor,
    products: Tensor,
    usable: Tensor,
    corners: Tensor,
    barycentric: Tensor,
    shift: Tensor | None,
    quats: Tensor,
    scales: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    surface = _backend.contiguous(posed, offsets, columns, weights_t, weights_b, frame, products, usable)
    bound = _backend.contiguous(corners, barycentric, shift, _backend.aligned(quats), scales)
    table, out = posed.new_empty(len(posed), 16), _outputs(posed, corners, quats, scales)
    _backend.call_cuda(
        "omega_cuda_gaussian_pose",
        posed,
        integer(len(posed)),
        integer(len(columns)),
        *map(pointer, surface),
        integer(len(corners)),
        *map(pointer, bound),
        *map(pointer, (table, *out)),
    )
    return out


def _outputs(posed: Tensor, corners: Tensor, quats: Tensor, scales: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return posed.new_empty(len(corners), 3), quats.new_empty(quats.shape), scales.new_empty(scales.shape)


@gaussian_pose.register_fake
def _(
    posed: Tensor,
    offsets: Tensor,
    columns: Tensor,
    weights_t: Tensor,
    weights_b: Tensor,
    frame: Tensor,
    products: Tensor,
    usable: Tensor,
    corners: Tensor,
    barycentric: Tensor,
    shift: Tensor | None,
    quats: Tensor,
    scales: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    return _outputs(posed, corners, quats, scales)
