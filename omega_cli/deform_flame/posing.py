"""A head in one pose as a single affine map of its canonical vertices.

With the pose fixed, linear blend skinning is affine in the surface, joints included. The fit poses the mesh
several times a step: this takes 7 operations where `HeadModel.animate` takes about a hundred.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from omega_cli.geometry.rotation import axis_angle_to_matrix
from omega_cli.head.lbs import joint_transforms
from omega_cli.head.model import HeadModel
from omega_cli.head.params import HeadParams


@dataclass(frozen=True)
class Posing:
    """v_i -> linear_i v_i + sum_j weights_ij shift_j(regressor v) + constant_i.

    linear [V, 3, 3]; regressor [J, V]; shift [3 J, 3 J]: joint coordinates -> the joints' translations;
    weights [V, J]; constant [V, 3] m.
    """

    linear: Tensor
    regressor: Tensor
    shift: Tensor
    weights: Tensor
    constant: Tensor

    def __call__(self, vertices: Tensor) -> Tensor:  # [..., V, 3] m canonical -> [..., V, 3] m posed
        """The posed surfaces; differentiable."""
        joints = (self.regressor @ vertices).flatten(-2)
        shifts = (joints @ self.shift).unflatten(-1, (-1, 3))
        return (self.linear * vertices[..., None, :]).sum(-1) + self.weights @ shifts + self.constant


def posing(model: HeadModel, params: HeadParams) -> Posing:
    """What `model.animate(., params).vertices[0]` does, params of T = 1."""
    J = len(model.parents)
    rotations = axis_angle_to_matrix(params.pose.reshape(1, J, 3))

    def translations(joints: Tensor) -> Tensor:  # [J, 3] -> [J, 3], linear in the joints
        return joint_transforms(rotations, joints, model.parents)[1][0, :, :, 3]

    units = torch.eye(3 * J, dtype=rotations.dtype, device=rotations.device).view(3 * J, J, 3)
    posed = model.animate(model.v_template, params)
    centred = Posing(
        linear=(model.weights @ posed.transforms[0, :, :3, :3].flatten(1)).view(-1, 3, 3),
        regressor=model.J_regressor,
        shift=params.scale * torch.vmap(translations)(units).flatten(1),
        weights=model.weights,
        constant=torch.zeros_like(model.v_template),
    )
    # expression, pose correctives and placement do not depend on the surface
    return dataclasses.replace(centred, constant=posed.vertices[0] - centred(model.v_template))
