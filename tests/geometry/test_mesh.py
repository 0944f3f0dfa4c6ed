"""Mesh maths on shapes whose answers are known."""

from __future__ import annotations

import pytest
import torch
import trimesh

from omega_cli.geometry import mesh


@pytest.fixture(scope="module")
def sphere() -> tuple[torch.Tensor, torch.Tensor]:
    ball = trimesh.creation.icosphere(subdivisions=3)
    return torch.tensor(ball.vertices, dtype=torch.float32), torch.tensor(ball.faces, dtype=torch.long)


def test_normals_of_a_sphere_are_its_points(sphere) -> None:
    v, f = sphere
    assert (mesh.vertex_normals(v, f) - v).norm(dim=1).max() < 0.02
    centre = torch.nn.functional.normalize(v[f].mean(1), dim=1)
    assert (mesh.face_normals(v, f) - centre).norm(dim=1).max() < 0.02
    assert mesh.face_areas(v, f).sum() == pytest.approx(trimesh.Trimesh(v, f).area, rel=1e-5)


def test_batches_equal_one_by_one(sphere) -> None:
    v, f = sphere
    batch = torch.stack([v, 2 * v, v @ torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])])
    single = torch.stack([mesh.vertex_normals(b, f) for b in batch])
    assert torch.equal(mesh.vertex_normals(batch, f), single)


def test_laplacian_is_vertex_minus_mean_of_neighbours(sphere) -> None:
    v, f = sphere
    L = mesh.uniform_laplacian(f, len(v) + 1)  # one vertex without neighbours
    out = L @ torch.cat([v, torch.ones(1, 3)])
    e = mesh.edges(f)
    assert len(e) == 3 * len(f) // 2 and (e[:, 0] < e[:, 1]).all()
    for i in (0, 17, 200):
        neighbours = torch.cat([e[e[:, 0] == i, 1], e[e[:, 1] == i, 0]])
        assert torch.allclose(out[i], v[i] - v[neighbours].mean(0), atol=1e-6)
    assert (out[-1] == 0).all()
    assert (L @ torch.ones(len(v) + 1, 1))[:-1].abs().max() < 1e-6
