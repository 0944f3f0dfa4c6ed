"""What drives a head: identity, expression, pose, placement (house glossary names, FLAME's meaning)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, fields

import torch
from torch import Tensor

POSES = ("global_orient", "neck_pose", "jaw_pose", "leye_pose", "reye_pose")
_PER_FRAME = ("expression", *POSES, "transl")


@dataclass(frozen=True)
class HeadParams:
    """One identity over T frames, float32.

    betas [S]; expression [T, E]; the five poses [T, 3] axis-angle rad; transl [T, 3] m; scale [] (> 0).
    """

    betas: Tensor
    expression: Tensor
    global_orient: Tensor
    neck_pose: Tensor
    jaw_pose: Tensor
    leye_pose: Tensor
    reye_pose: Tensor
    transl: Tensor
    scale: Tensor

    def __post_init__(self) -> None:
        if self.betas.ndim != 1 or self.scale.ndim != 0:
            raise ValueError(
                f"betas must be [S] and scale [], got {tuple(self.betas.shape)}, {tuple(self.scale.shape)}"
            )
        T = self.expression.shape[0]
        for name in (*POSES, "transl"):
            shape = tuple(getattr(self, name).shape)
            if shape != (T, 3):
                raise ValueError(f"{name} must be [{T}, 3] like expression's {T} frames, got {shape}")

    @staticmethod
    def zeros(S: int, E: int, T: int = 1, device: torch.device | str = "cpu") -> HeadParams:
        """The template: mean identity, neutral expression, zero pose, scale 1."""
        poses = {name: torch.zeros(T, 3, device=device) for name in (*POSES, "transl")}
        return HeadParams(
            betas=torch.zeros(S, device=device),
            expression=torch.zeros(T, E, device=device),
            scale=torch.ones((), device=device),
            **poses,
        )

    def __len__(self) -> int:
        return self.expression.shape[0]

    @property
    def pose(self) -> Tensor:  # [T, 15]
        """θ: the five axis-angles in FLAME's order (root, neck, jaw, left eye, right eye)."""
        return torch.cat([getattr(self, name) for name in POSES], dim=1)

    def frame(self, t: int) -> HeadParams:
        """Frame t alone (T = 1); negative t counts from the end."""
        if not -len(self) <= t < len(self):
            raise IndexError(f"frame {t} of {len(self)}")
        t %= len(self)
        return self.frames(slice(t, t + 1))

    def frames(self, idx: slice | list[int] | Tensor) -> HeadParams:
        """The chosen frames, same identity."""
        return self.replace(**{name: getattr(self, name)[idx] for name in _PER_FRAME})

    def replace(self, **changes: Tensor) -> HeadParams:
        return dataclasses.replace(self, **changes)

    def to(self, device: torch.device | str) -> HeadParams:
        return HeadParams(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    @staticmethod
    def concatenate(parts: list[HeadParams]) -> HeadParams:
        """Frames of one identity, one after the other; betas and scale are the first part's."""
        return parts[0].replace(**{name: torch.cat([getattr(p, name) for p in parts]) for name in _PER_FRAME})
