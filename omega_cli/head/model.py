"""The parametric head (paper Eq. 1): one class for the open head and for official FLAME files."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import torch
from torch import Tensor

from omega_cli.geometry.rotation import axis_angle_to_matrix
from omega_cli.head.landmarks import LandmarkEmbedding, embed
from omega_cli.head.lbs import joint_transforms, skin
from omega_cli.head.params import HeadParams

JOINTS = ("root", "neck", "jaw", "left_eye", "right_eye")


@dataclass(frozen=True)
class HeadOutput:
    """vertices [T, V, 3] m; joints [T, J, 3] m; affine [T, J, 3, 4]: rest -> posed, placement (scale,
    transl) included, so that sum_j w_ij affine_j applied to a rest point skins it."""

    vertices: Tensor
    joints: Tensor
    affine: Tensor

    @property
    def transforms(self) -> Tensor:
        """`affine` as homogeneous matrices [T, J, 4, 4]."""
        bottom = self.affine.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*self.affine.shape[:2], 1, 4)
        return torch.cat([self.affine, bottom], dim=2)


@dataclass(frozen=True, eq=False)
class HeadModel:
    """M(β, θ, ψ) with per-vertex offsets, FLAME's format (paper Eq. 1).

    World: metres, y up, face towards +z, subject's left = +x. The offsets ΔV are canonical: they are
    added before skinning, so that they follow the pose (the paper writes them after; see docs/paper.md).
    mirror_index [V]: the vertex across the symmetry plane. albedo [V, 3]: generic sRGB in [0, 1].
    """

    v_template: Tensor  # [V, 3] m
    shapedirs: Tensor  # [V, 3, S] m per unit beta
    exprdirs: Tensor  # [V, 3, E] m per unit expression
    posedirs: Tensor | None  # [V, 3, 9 (J - 1)] m per unit of (R - I), or None
    J_regressor: Tensor  # [J, V], rows sum to 1
    weights: Tensor  # [V, J], rows sum to 1
    parents: tuple[int, ...]
    faces: Tensor  # [F, 3] long
    uvs: Tensor  # [Vt, 2] in [0, 1], origin top left
    uv_faces: Tensor  # [F, 3] long
    expression_names: tuple[str, ...] = ()
    regions: dict[str, Tensor] = field(default_factory=dict)  # name -> [V] bool
    landmarks: dict[str, LandmarkEmbedding] = field(default_factory=dict)
    mirror_index: Tensor | None = None  # [V] long
    albedo: Tensor | None = None  # [V, 3]
    name: str = ""
    sha256: str = ""

    @property
    def S(self) -> int:
        """Number of identity components."""
        return self.shapedirs.shape[2]

    @property
    def E(self) -> int:
        """Number of expression components."""
        return self.exprdirs.shape[2]

    def zeros(self, T: int = 1) -> HeadParams:
        """Neutral parameters of this model's sizes, on its device."""
        return HeadParams.zeros(self.S, self.E, T, device=self.v_template.device)

    def identity(self, betas: Tensor, offsets: Tensor | None = None) -> Tensor:
        """Canonical surface [V, 3] m: template + identity + offsets ΔV, zero pose, no expression."""
        shaped = self.v_template + (self.shapedirs.flatten(0, 1) @ betas).view_as(self.v_template)
        return shaped if offsets is None else shaped + offsets

    canonical = identity

    def animate(self, shaped: Tensor, params: HeadParams) -> HeadOutput:
        """Move a canonical surface [V, 3] m, or one for each frame [T, V, 3], through params' T frames (its
        betas are not read)."""
        T, V = len(params), self.v_template.shape[0]
        if tuple(shaped.shape) not in ((V, 3), (T, V, 3)):
            raise ValueError(f"shaped must be [{V}, 3] or [{T}, {V}, 3], got {tuple(shaped.shape)}")
        joints = self.J_regressor @ shaped
        rotations = axis_angle_to_matrix(params.pose.reshape(T, -1, 3))
        rest = torch.addmm(shaped.flatten(-2), params.expression, self.exprdirs.flatten(0, 1).T).view(T, V, 3)
        if self.posedirs is not None:
            eye = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
            feature = (rotations[:, 1:] - eye).reshape(T, -1)
            rest = rest + (feature @ self.posedirs.flatten(0, 1).T).view(T, V, 3)
        posed, transforms = joint_transforms(rotations, joints, self.parents)
        shift = params.transl[:, None]
        scaled = params.scale * transforms
        affine = torch.cat([scaled[..., :3], scaled[..., 3:] + shift[..., None]], dim=-1)
        return HeadOutput(skin(rest, affine, self.weights), params.scale * posed + shift, affine)

    def forward(self, params: HeadParams, offsets: Tensor | None = None) -> HeadOutput:
        """Posed head (Eq. 1). offsets ΔV [V, 3] m or None. global_orient turns about the root joint like
        FLAME, `scale` multiplies the posed model, then transl moves it.

        Joints come from the shaped surface, offsets included, as in the FLAME family.
        """
        return self.animate(self.identity(params.betas, offsets), params)

    __call__ = forward

    def landmark_points(self, vertices: Tensor, name: str) -> Tensor:  # [..., V, 3] -> [..., L, 3]
        """Positions of the landmark set `name` ("ibug68", "mediapipe478") on given vertices."""
        return embed(vertices, self.faces, self.landmarks[name])

    def to(self, device: torch.device | str) -> HeadModel:
        def move(value: object) -> object:
            if isinstance(value, dict):
                return {key: move(item) for key, item in value.items()}
            return value.to(device) if isinstance(value, (Tensor, LandmarkEmbedding)) else value

        moved = {f.name: move(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return HeadModel(**moved)  # type: ignore[arg-type]
