"""The Gaussian record: gsplat's names, linear values (logs and logits live inside PLY only)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

COLOURS = 32  # paper 3.3: channels of a learned Gaussian, the first three RGB


@dataclass(frozen=True)
class Gaussians:
    """N Gaussians in one frame of reference.

    means [N, 3] m; quats [N, 4] wxyz, unit; scales [N, 3] m, standard deviations, linear;
    opacities [N] in [0, 1]; colors [N, C], the first three sRGB in [0, 1].
    """

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colors: Tensor

    def __post_init__(self) -> None:
        n = self.means.shape[0]
        wanted = {"means": (n, 3), "quats": (n, 4), "scales": (n, 3), "opacities": (n,)}
        for name, shape in wanted.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"{name} must be {shape}, got {tuple(getattr(self, name).shape)}")
        if self.colors.ndim != 2 or self.colors.shape[0] != n:
            raise ValueError(f"colors must be [{n}, C], got {tuple(self.colors.shape)}")

    def __len__(self) -> int:
        return self.means.shape[0]

    def to(self, device: torch.device | str) -> Gaussians:
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def first_colours(self, count: int) -> Gaussians:
        """With the first channels alone."""
        return (
            self
            if self.colors.shape[1] == count
            else replace(self, colors=self.colors[:, :count].contiguous())
        )

    @staticmethod
    def concatenate(parts: list[Gaussians]) -> Gaussians:
        return Gaussians(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Gaussians)))
