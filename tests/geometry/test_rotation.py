"""Rotations: against scipy, at zero, near pi, and with gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from omega_cli.geometry import rotation


@pytest.fixture
def vectors() -> torch.Tensor:
    random = torch.randn(500, 3, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    axes = torch.eye(3, dtype=torch.double)
    special = torch.cat([torch.zeros(1, 3), 1e-9 * axes, 1e-3 * axes, 3.14159 * axes, -3.1 * axes])
    return torch.cat([random, special])


def test_matrices_are_scipys(vectors: torch.Tensor) -> None:
    wanted = Rotation.from_rotvec(vectors.numpy()).as_matrix()
    assert np.abs(rotation.axis_angle_to_matrix(vectors).numpy() - wanted).max() < 1e-12


def test_every_way_round_gives_the_matrix_back(vectors: torch.Tensor) -> None:
    R = rotation.axis_angle_to_matrix(vectors)
    for way in (
        rotation.axis_angle_to_matrix(rotation.matrix_to_axis_angle(R)),
        rotation.quat_to_matrix(rotation.matrix_to_quat(R)),
        rotation.quat_to_matrix(rotation.axis_angle_to_quat(vectors)),
    ):
        assert (way - R).abs().max() < 1e-9


def test_quaternion_product_is_the_matrix_product(vectors: torch.Tensor) -> None:
    a, b = vectors, vectors.flip(0)
    product = rotation.quat_multiply(rotation.axis_angle_to_quat(a), rotation.axis_angle_to_quat(b))
    wanted = rotation.axis_angle_to_matrix(a) @ rotation.axis_angle_to_matrix(b)
    assert (rotation.quat_to_matrix(product) - wanted).abs().max() < 1e-12


@pytest.mark.parametrize("angle", [0.0, 1e-4, 0.7])
def test_gradients(angle: float) -> None:
    a = (angle * torch.tensor([0.6, -0.48, 0.64], dtype=torch.double)).requires_grad_()
    assert torch.autograd.gradcheck(rotation.axis_angle_to_matrix, a, eps=1e-7)
    there_and_back = lambda x: rotation.matrix_to_axis_angle(rotation.axis_angle_to_matrix(x))  # noqa: E731
    jacobian = torch.autograd.functional.jacobian(there_and_back, a.detach())
    assert torch.allclose(jacobian, torch.eye(3, dtype=torch.double), atol=1e-6)
