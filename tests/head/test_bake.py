"""The bake's own tools on small shapes (the bake itself runs by hand: docs/open-head.md)."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import trimesh

from omega_cli.head.bake import flatten, halfmesh
from omega_cli.head.bake.population import identity_basis
from omega_cli.head.bake.rig import affine_weights, hinge


def grid(n: int) -> tuple[np.ndarray, np.ndarray]:
    """An n x n sheet in [0, 1]² of the x-y plane, faces towards +z."""
    x, y = np.meshgrid(np.linspace(0, 1, n), np.linspace(0, 1, n))
    vertices = np.stack([x.ravel(), y.ravel(), np.zeros(n * n)], axis=1)
    i = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    return vertices, np.concatenate([np.stack([i, i + 1, i + n + 1], 1), np.stack([i, i + n + 1, i + n], 1)])


def linear(vertices: np.ndarray, faces: np.ndarray) -> halfmesh.LinearMesh:
    return halfmesh.LinearMesh(sp.eye(len(vertices), format="csr"), faces)


@pytest.mark.parametrize("snap", [0.0, 0.3])
def test_a_slice_ends_on_the_plane_and_keeps_the_area(snap: float) -> None:
    vertices, faces = grid(9)
    value = 0.613 - vertices[:, 0] - 0.21 * vertices[:, 1]
    mesh, rim = halfmesh.slice_mesh(linear(vertices, faces), value, snap)
    p = mesh.operator @ vertices
    distance = 0.613 - p[:, 0] - 0.21 * p[:, 1]
    assert np.abs(distance[rim]).max() < 1e-12 and distance.min() > -1e-12
    cut = trimesh.Trimesh(p, mesh.faces, process=False)
    assert cut.area == pytest.approx(0.613 - 0.21 / 2, rel=1e-9)
    assert (cut.face_normals[:, 2] > 0.99).all()
    assert np.abs(mesh.operator.sum(1) - 1).max() < 1e-12


def test_refinement_is_conforming_and_keeps_the_surface() -> None:
    vertices, faces = grid(6)
    marked = {tuple(sorted(e)) for f in faces[::3].tolist() for e in (f[:2], f[1:])}
    fine, ends = halfmesh.refine(faces, len(vertices), marked, vertices)
    p = np.concatenate([vertices, vertices[ends].mean(1)])
    mesh = trimesh.Trimesh(p, fine, process=False)
    assert mesh.area == pytest.approx(1.0) and (mesh.face_normals[:, 2] > 0.99).all()
    assert len(mesh.outline().entities) == 1  # no cracks inside
    flipped = halfmesh.flip_to_delaunay(fine, p, np.ones(len(p), bool))
    assert trimesh.Trimesh(p, flipped, process=False).area == pytest.approx(1.0)


def test_a_dome_is_flattened_without_flips_to_a_minimum() -> None:
    vertices, faces = grid(14)
    height = 0.6 * np.sin(np.pi * vertices[:, 0]) * np.sin(np.pi * vertices[:, 1])
    dome = np.c_[vertices[:, :2], height]
    outline = np.abs(vertices[:, :2] - 0.5).max(1) > 0.499
    uv = flatten.tutte(faces, outline, vertices[:, :2])
    free = np.abs(vertices[:, :2] - 0.5) < 0.499
    middle = np.linalg.norm(vertices[faces].mean(1)[:, :2] - 0.5, axis=1) < 0.25
    area = trimesh.Trimesh(dome, faces, process=False).area_faces
    ones = np.ones(len(faces))

    def signed(place: np.ndarray) -> np.ndarray:
        a, b, c = (place[faces[:, k]] for k in range(3))
        return ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2

    def flat(gain: float) -> np.ndarray:
        density = np.where(middle, gain, 1.0)
        density /= (density * area).sum()
        out = flatten.descend(uv, free, dome, faces, density, ones, 60)
        assert signed(out).min() > 0 and signed(out).sum() == pytest.approx(1.0)
        assert np.abs((out - uv)[~free]).max() == 0  # the outline slides along its sides only
        # a minimum: no small move of the free coordinates lowers the energy
        shapes = flatten._local_shapes(dome, faces, density)

        def energy(place: np.ndarray) -> float:
            return flatten._energy(
                flatten._edges2(place, faces) @ np.linalg.inv(shapes), np.linalg.det(shapes)
            )

        rng = np.random.default_rng(3)
        for _ in range(10):
            assert energy(out + 1e-3 * rng.normal(size=out.shape) * free) > energy(out)
        return out

    shares = [signed(flat(gain))[middle].sum() for gain in (1.0, 3.0, 9.0)]
    assert shares[0] < shares[1] < shares[2]  # more wanted, more given


def test_loops_and_affine_weights_and_hinges() -> None:
    _, faces = grid(5)
    assert [len(loop) for loop in flatten.boundary_loops(faces)] == [16]
    rng = np.random.default_rng(0)
    points, target = rng.normal(size=(30, 3)), np.array([0.2, -0.1, 0.4])
    w = affine_weights(points, target)
    assert w.sum() == pytest.approx(1) and np.allclose(w @ points, target)
    c, s = np.cos(0.3), np.sin(0.3)
    R, pivot = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]), np.array([0, 0.5, -0.2])
    centre, angle = hinge(points, (points - pivot) @ R.T + pivot)
    assert angle == pytest.approx(0.3) and np.allclose(centre, pivot[1:])


def test_the_identity_basis_is_the_populations_covariance() -> None:
    """Against sampling: mean and covariance of explicitly built heads and their mirror images."""

    class Tiny:
        vertices = np.zeros((4, 3))

        def __init__(self) -> None:
            rng = np.random.default_rng(1)
            self.shapes = {name: rng.normal(size=(4, 3)) for name in "abc"}

        def target(self, name: str) -> np.ndarray:
            return self.shapes[name]

    source, mirror, P = Tiny(), np.array([1, 0, 2, 3]), 4000
    rng = np.random.default_rng(2)
    people = {"a": rng.normal(1, 0.5, P), "b": rng.normal(0, 1, P), "c": rng.normal(0, 0.2, P)}
    origin = np.array([0.5, 0.5, 0, 0])
    from omega_cli.head.bake import population

    mean, basis, kept = identity_basis(source, people, sp.eye(4, format="csr"), mirror, origin, 6)  # type: ignore[arg-type]
    heads = 0.1 * sum(people[k][:, None, None] * source.shapes[k] for k in "abc")
    heads = heads - np.einsum("v,pvc->pc", origin, heads)[:, None]
    both = np.concatenate([heads, heads[:, mirror] * [-1, 1, 1]])
    assert np.allclose(both.mean(0), mean, atol=1e-9)
    size = np.einsum("pvc,vc->p", both - mean, mean) / (mean**2).sum()
    # the mirrored copy's mean is not part of the spread; overall size is damped
    own = np.concatenate([heads - heads.mean(0), (heads - heads.mean(0))[:, mirror] * [-1, 1, 1]])
    size = np.einsum("pvc,vc->p", own, mean) / (mean**2).sum()
    own = own - (1 - population.SIZE_KEPT) * size[:, None, None] * mean
    wanted = np.einsum("pvc,pwd->vcwd", own, own) / (2 * P - 2)
    got = np.einsum("vck,wdk->vcwd", basis, basis)
    assert np.abs(got - wanted).max() < 2e-3 * np.abs(wanted).max()
    assert kept[-1] == pytest.approx(1.0)
