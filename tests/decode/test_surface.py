"""Gaussians on a surface: the footprint of a texel, in closed form and as invariants."""

from __future__ import annotations

import math

import pytest
import torch

from omega_cli.decode.config import DecodeConfig
from omega_cli.decode.surface import (
    THICKNESS,
    covering_texels,
    face_footprints,
    texel_gaussians,
    vertex_gaussians,
    vertex_uvs,
)
from omega_cli.geometry.rotation import axis_angle_to_matrix, quat_to_matrix

SIZE = 20
# One quad of 0.02 m x 0.01 m in the plane z = 0 that fills half of the UV square's height.
VERTICES = torch.tensor([[0.0, 0.01, 0.0], [0.02, 0.01, 0.0], [0.0, 0.0, 0.0], [0.02, 0.0, 0.0]])
FACES = torch.tensor([[0, 2, 1], [1, 2, 3]])
UVS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.5], [1.0, 0.5]])


def test_extent_is_the_texel_spacing_and_the_frame_looks_outwards() -> None:
    prints = face_footprints(VERTICES, FACES, UVS, FACES, SIZE)
    assert torch.allclose(prints.extent, torch.full((2, 2), 0.001), atol=1e-8)
    assert torch.allclose(prints.rotation[:, :, 2], torch.tensor([[0.0, 0.0, 1.0]] * 2), atol=1e-6)
    assert torch.allclose(prints.rotation.det(), torch.ones(2), atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_footprint_is_the_jacobians_ellipse_for_any_shear_and_mirroring(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    vertices = torch.rand(30, 3, generator=g)
    faces = torch.arange(30).view(10, 3)
    uvs = torch.rand(30, 2, generator=g)
    prints = face_footprints(vertices, faces, uvs, faces, SIZE)
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    ua, ub, uc = (uvs[faces[:, k]] * SIZE for k in range(3))
    jacobian = torch.stack([b - a, c - a], -1) @ torch.linalg.inv(torch.stack([ub - ua, uc - ua], -1))
    truth = jacobian @ jacobian.transpose(1, 2)
    axes = prints.rotation[:, :, :2] * prints.extent[:, None]
    error = (axes @ axes.transpose(1, 2) - truth).abs().amax((1, 2)) / truth.abs().amax((1, 2))
    assert error.max() < 1e-4
    normal = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1)
    assert (prints.rotation[:, :, 2] - normal).abs().max() < 1e-5
    assert torch.allclose(prints.rotation.det(), torch.ones(10), atol=1e-4)


def test_faces_without_area_get_a_frame_all_the_same() -> None:
    faces = torch.tensor([[0, 2, 1], [0, 0, 1]])
    prints = face_footprints(VERTICES, faces, UVS, faces, SIZE)
    assert prints.rotation.isfinite().all() and prints.extent.isfinite().all()
    assert prints.extent[1].max() == 0


def some_texels(vertices: torch.Tensor):
    where = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.2, 0.2]])
    prints = face_footprints(vertices, FACES, UVS, FACES, SIZE)
    colors, opacity = torch.rand(2, 3, generator=torch.Generator().manual_seed(0)), torch.ones(2)
    return texel_gaussians(vertices, FACES, prints, torch.tensor([0, 1]), where, colors, opacity, 0.6)


def test_texels_that_an_island_only_touches_are_covered_by_its_nearest_part() -> None:
    """An island from 0.1 to 0.5 texels beyond the last centres that it holds."""
    size, rim = 16, 0.2
    low, high = (4 - rim) / size, (10 + rim) / size
    uvs = torch.tensor([[low, low], [high, low], [low, high], [high, high]])
    face_index, barycentric = covering_texels(uvs, FACES, size)
    assert torch.equal(face_index[4:10, 4:10] >= 0, torch.ones(6, 6, dtype=torch.bool))
    ring = torch.zeros(size, size, dtype=torch.bool)
    ring[3:11, 3:11] = True
    assert torch.equal(face_index >= 0, ring)
    place = (uvs[FACES[face_index.clamp_min(0)]] * barycentric[..., None]).sum(-2)[ring] * size
    i = torch.arange(size) + 0.5
    centre = torch.stack(torch.meshgrid(i, i, indexing="xy"), -1)[ring]
    assert (place - centre).abs().max() < 0.34 and (place >= low * size - 1e-3).all()


def test_texel_gaussians_lie_flat_on_the_surface() -> None:
    out = some_texels(VERTICES)
    assert out.means[:, 2].abs().max() == 0
    assert torch.allclose(out.means[0], 0.2 * VERTICES[0] + 0.3 * VERTICES[2] + 0.5 * VERTICES[1])
    assert torch.allclose(out.scales[:, :2], torch.full((2, 2), 0.0006))
    assert torch.allclose(out.scales[:, 2], torch.full((2,), 0.0006 * THICKNESS))
    assert torch.allclose(quat_to_matrix(out.quats)[:, :, 2].abs(), torch.tensor([[0.0, 0.0, 1.0]] * 2))


def test_moving_the_surface_rigidly_moves_the_gaussians_and_keeps_their_scales() -> None:
    R = axis_angle_to_matrix(torch.tensor([0.4, -1.1, 0.7]))
    t = torch.tensor([0.1, 0.2, -0.3])
    here, there = some_texels(VERTICES), some_texels(VERTICES @ R.T + t)
    assert torch.allclose(there.means, here.means @ R.T + t, atol=1e-6)
    assert torch.allclose(there.scales, here.scales, atol=1e-7)

    def covariance(g):
        axes = quat_to_matrix(g.quats) * g.scales[:, None]
        return axes @ axes.transpose(1, 2)

    assert torch.allclose(covariance(there), R @ covariance(here) @ R.T, atol=1e-12)


def test_texels_side_by_side_leave_no_gap() -> None:
    """On a sheet of texel Gaussians, what shines through at the worst point is under 5.1 %."""
    sigma, opacity = DecodeConfig().texel_sigma, DecodeConfig().opacity
    grid = torch.cartesian_prod(torch.arange(-4.0, 5), torch.arange(-4.0, 5))
    spots = torch.cartesian_prod(torch.linspace(0, 1, 9), torch.linspace(0, 1, 9))
    alpha = opacity * torch.exp(-0.5 * ((spots[:, None] - grid) ** 2).sum(-1) / sigma**2)
    assert (1 - alpha).prod(1).max() < 0.051


def test_vertex_gaussians_sit_on_their_vertices_facing_out(ball) -> None:
    count = len(ball.vertices)
    colors, opacity, spacing = torch.rand(count, 3), torch.full((count,), 0.4), torch.full((count, 2), 0.001)
    out = vertex_gaussians(ball.vertices, ball.faces, colors, opacity, spacing, 0.6)
    assert torch.equal(out.means, ball.vertices)
    used = torch.zeros(count, dtype=torch.bool)
    used[ball.faces.flatten()] = True
    normal = quat_to_matrix(out.quats)[used, :, 2]
    outward = torch.nn.functional.normalize(
        ball.vertices[used] / torch.tensor([0.08, 0.11, 0.09]) ** 2, dim=-1
    )
    assert (normal * outward).sum(-1).min() > math.cos(math.radians(5))
    assert out.scales[used].max() <= 0.0006 and out.scales.min() > 0
    assert torch.allclose(out.opacities[used], torch.tensor(0.4))


def test_vertices_close_the_surface_where_texels_are_sparse(ball) -> None:
    count = len(ball.vertices)
    opacity = torch.full((count,), 0.4)
    opacity[:50] = 0
    sparse = torch.full((count, 2), 0.1)
    out = vertex_gaussians(ball.vertices, ball.faces, torch.rand(count, 3), opacity, sparse, 0.6)
    assert (out.opacities[:50] == 0).all() and out.opacities[50:].min() > 0.9
    used = torch.unique(ball.faces)
    assert out.scales[used[50:], :2].median() > 0.003  # a third of an edge and more


def test_every_used_vertex_has_a_uv_of_its_own(ball) -> None:
    uv = vertex_uvs(ball.faces, ball.uvs, ball.uv_faces, len(ball.vertices))
    used = torch.zeros(len(ball.vertices), dtype=torch.bool)
    used[ball.faces.flatten()] = True
    assert uv[used].isfinite().all() and uv[~used].isnan().all()
    for corner in range(3):
        same = (uv[ball.faces[:, corner]] - ball.uvs[ball.uv_faces[:, corner]]).abs().amax(1) < 1e-6
        assert same.float().mean() > 0.9  # all but the seam and the poles, where a vertex has several
