"""What fit and network change of the analytic Gaussians. Zero changes nothing, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from omega_cli.gaussians.binding import face_frames
from omega_cli.gaussians.model import COLOURS, Gaussians
from omega_cli.geometry.rotation import axis_angle_to_quat, quat_multiply

MOST_TURN = 1.0  # rad  # ours
MOST_GROWTH = 1.2  # |log| of a change of scale: with more, what sticks out became balls  # ours
MOST_OFFSET = 1.0  # face scales  # ours
AT_VERTEX = COLOURS + 1 + 3 + 3  # colours, opacity, scales, rotation
ON_TEXEL = AT_VERTEX + 3  # and local offset


@dataclass(frozen=True)
class Change:
    """The residual of N Gaussians, still unbounded numbers.

    colors [N, 32], or [N, 3] of the fit; opacity [N]; scales, turn (axis-angle in the Gaussian's own
    axes) [N, 3]; offset [N, 3] in the face frame, or None at vertices, whose mean is the vertex (reading f).
    """

    colors: Tensor
    opacity: Tensor
    scales: Tensor
    turn: Tensor
    offset: Tensor | None

    @staticmethod
    def of(numbers: Tensor) -> Change:  # [N, ON_TEXEL] or [N, AT_VERTEX]
        if numbers.shape[1] not in (ON_TEXEL, AT_VERTEX):
            raise ValueError(f"a change has {ON_TEXEL} or {AT_VERTEX} numbers, got {numbers.shape[1]}")
        parts = numbers.split([COLOURS, 1, 3, 3, numbers.shape[1] - AT_VERTEX], dim=1)
        return Change(parts[0], parts[1][:, 0], parts[2], parts[3], parts[4] if parts[4].shape[1] else None)

    @staticmethod
    def fitted(colours: Tensor, scales: Tensor, turn: Tensor, offset: Tensor | None = None) -> Change:
        """What a fit may say: three numbers of each, no opacity."""
        return Change(colours, torch.zeros_like(colours[:, 0]), scales, turn, offset)

    def plus(self, fitted: Change | None) -> Change:
        """Both together, before they are bounded; the other may have fewer colours."""
        if fitted is None:
            return self
        count = fitted.colors.shape[1]
        colors = torch.cat([self.colors[:, :count] + fitted.colors, self.colors[:, count:]], 1)
        offset = self.offset
        if offset is not None and fitted.offset is not None:
            offset = offset + fitted.offset
        return Change(
            colors, self.opacity + fitted.opacity, self.scales + fitted.scales, self.turn + fitted.turn,
            offset,
        )  # fmt: skip

    def shape(self) -> Tensor:
        """All but the colours [N, 7 or 10]."""
        parts = [self.opacity[:, None], self.scales, self.turn]
        return torch.cat(parts if self.offset is None else [*parts, self.offset], 1)

    def shift(self) -> Tensor | None:
        """Local offset [N, 3] in units of the face scale, bounded by MOST_OFFSET."""
        return None if self.offset is None else MOST_OFFSET * torch.tanh(self.offset)

    def growth(self) -> Tensor:
        """Logarithm [N, 3] of the factor on the scales, bounded by MOST_GROWTH."""
        return MOST_GROWTH * torch.tanh(self.scales / MOST_GROWTH)


def changed(base: Gaussians, change: Change) -> Gaussians:
    """The base with everything but the offset applied: colors [N, 32], opacities still in [0, 1]."""
    rgb = base.colors[:, :3] + change.colors[:, :3]
    pull = torch.tanh(change.opacity)
    room = torch.where(pull > 0, 1 - base.opacities, base.opacities)
    quats = quat_multiply(base.quats, axis_angle_to_quat(MOST_TURN * torch.tanh(change.turn)))
    return replace(
        base,
        colors=torch.cat([rgb, change.colors[:, 3:]], 1),
        # what the base hides stays hidden: lashes, and vertices without a face
        opacities=base.opacities + torch.where(base.opacities > 0, room, 0.0) * pull,
        scales=base.scales * torch.exp(change.growth()),
        quats=quats,
    )


def moved(
    gaussians: Gaussians,  # on the canonical mesh
    shift: Tensor,  # [N, 3] face scales
    vertices: Tensor,  # [V, 3] m
    faces: Tensor,  # [F, 3]
    face_index: Tensor,  # [N]
) -> Gaussians:
    """Gaussians shifted in the frame of the face that they sit on."""
    _, R, scale = (t[face_index] for t in face_frames(vertices, faces))
    return replace(gaussians, means=gaussians.means + (R @ shift[..., None])[..., 0] * scale[:, None])


def local_term(changes: tuple[Change, Change]) -> Tensor:
    """L_local (eq. 9): how far UV Gaussians leave the surface and how much any Gaussian grows or shrinks."""
    on_texels, at_vertices = changes
    shift = on_texels.shift()
    total = on_texels.growth().square().mean() + at_vertices.growth().square().mean()
    return total if shift is None else total + shift.square().sum(1).mean()
