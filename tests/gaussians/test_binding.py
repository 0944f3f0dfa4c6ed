"""Binding: what a pose must keep, what it must change, and that it changes smoothly."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
import trimesh
from torch import Tensor

from omega_cli.gaussians.binding import (
    BoundGaussians,
    bind,
    bind_to_vertices,
    face_frames,
    surface_points,
    unbind,
    unbind_from_vertices,
    vertex_frames,
)
from omega_cli.gaussians.model import Gaussians
from omega_cli.geometry.rotation import axis_angle_to_matrix, quat_to_matrix

BACKENDS = ["native", "torch"]


def sphere(stretch: tuple[float, float, float] = (0.8, 1.1, 1.0)) -> tuple[Tensor, Tensor]:
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=0.12)
    return torch.tensor(mesh.vertices, dtype=torch.float32) * torch.tensor(stretch), torch.tensor(mesh.faces)


def random_gaussians(means: Tensor, seed: int) -> Gaussians:
    g = torch.Generator().manual_seed(seed)
    n = len(means)
    quats = F.normalize(torch.randn(n, 4, generator=g), dim=-1)
    return Gaussians(
        means,
        quats,
        torch.rand(n, 3, generator=g) * 0.002 + 1e-4,
        torch.rand(n, generator=g),
        torch.rand(n, 3),
    )


def bound_on(vertices: Tensor, faces: Tensor, N: int = 500, lift: float = 0.003) -> BoundGaussians:
    g = torch.Generator().manual_seed(0)
    face_index = torch.randint(0, len(faces), (N,), generator=g)
    barycentric = F.normalize(torch.rand(N, 3, generator=g), p=1, dim=-1)
    means = surface_points(vertices, faces, face_index, barycentric) + lift * torch.randn(N, 3, generator=g)
    uv, vertex = random_gaussians(means, 1), random_gaussians(vertices, 2)
    return BoundGaussians.bind(uv, face_index, barycentric, vertex, vertices, faces)


def rotation_error(a: Tensor, b: Tensor) -> float:
    """Largest difference of the rotations that two sets of quaternions mean."""
    return float((quat_to_matrix(a) - quat_to_matrix(b)).abs().max())


def test_local_and_back_is_the_identity() -> None:
    vertices, faces = sphere()
    bound = bound_on(vertices, faces)
    N = len(bound.uv)
    world = bound.canonical
    again, binding = bind(
        Gaussians(*(getattr(world, f)[:N] for f in ("means", "quats", "scales", "opacities", "colors"))),
        vertices,
        faces,
        bound.binding.face_index,
        bound.binding.barycentric,
    )
    torch.testing.assert_close(binding.local_offsets, bound.binding.local_offsets, atol=1e-5, rtol=0)
    torch.testing.assert_close(again.scales, bound.uv.scales)
    back = unbind(again, binding, vertices, faces)
    torch.testing.assert_close(back.means, world.means[:N], atol=1e-7, rtol=0)
    assert rotation_error(back.quats, world.quats[:N]) < 1e-5
    local = bind_to_vertices(random_gaussians(vertices, 2), vertices, faces)
    at_vertices = unbind_from_vertices(local, vertices, faces)
    assert rotation_error(at_vertices.quats, random_gaussians(vertices, 2).quats) < 1e-5
    torch.testing.assert_close(at_vertices.scales, random_gaussians(vertices, 2).scales)


def test_local_numbers_do_not_know_where_the_head_is_or_how_large() -> None:
    vertices, faces = sphere()
    bound = bound_on(vertices, faces)
    R, k = axis_angle_to_matrix(torch.tensor([0.5, -1.0, 2.0])), 1.7
    moved = BoundGaussians(bound.uv, bound.binding, bound.vertex, k * vertices @ R.T + 0.2, faces)
    torch.testing.assert_close(
        moved.canonical.means, k * bound.canonical.means @ R.T + 0.2, atol=2e-6, rtol=0
    )
    torch.testing.assert_close(moved.canonical.scales, k * bound.canonical.scales, atol=1e-8, rtol=1e-5)
    turned = quat_to_matrix(moved.canonical.quats) - R @ quat_to_matrix(bound.canonical.quats)
    assert turned.abs().max() < 1e-5


def test_files_hold_everything() -> None:
    vertices, faces = sphere()
    bound = bound_on(vertices, faces)
    uv, vertex = bound.tensors()
    assert set(uv) == {
        *("quats", "scales", "opacities", "colors", "local_offsets", "face_index", "barycentric"),
    }
    assert set(vertex) == {"quats", "scales", "opacities", "colors"}
    assert uv["face_index"].dtype == torch.int32 and uv["barycentric"].dtype == torch.float32
    again = BoundGaussians.from_tensors(uv, vertex, vertices, faces)
    for name in ("means", "quats", "scales", "opacities", "colors"):
        assert torch.equal(getattr(again.canonical, name), getattr(bound.canonical, name))
    with pytest.raises(ValueError, match="sits on face"):
        BoundGaussians.from_tensors(uv, vertex, vertices, faces[:10])


@pytest.mark.parametrize("backend", BACKENDS)
def test_canonical_pose_gives_back_the_input(backend: str) -> None:
    vertices, faces = sphere()
    bound = bound_on(vertices, faces)
    posed = bound.pose(vertices, faces, backend=backend)
    torch.testing.assert_close(posed.means, bound.canonical.means, atol=1e-7, rtol=0)
    torch.testing.assert_close(posed.scales, bound.canonical.scales, atol=0, rtol=3e-5)  # 8e-6 seen
    assert rotation_error(posed.quats, bound.canonical.quats) < 1e-5
    assert torch.equal(posed.opacities, bound.canonical.opacities)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("turn", [(0.3, 0.5, -1.0), (0.0, math.pi, 0.0), (1.9, -2.0, 0.5)])
def test_rigid_motion_turns_means_and_quats_and_leaves_scales(turn: tuple[float, ...], backend: str) -> None:
    vertices, faces = sphere()
    bound, R = bound_on(vertices, faces), axis_angle_to_matrix(torch.tensor(turn))
    before, after = bound.canonical, bound.pose(vertices @ R.T + 0.3, backend=backend)
    torch.testing.assert_close(after.means, before.means @ R.T + 0.3, atol=2e-6, rtol=0)
    torch.testing.assert_close(after.scales, before.scales, atol=0, rtol=1e-4)
    assert (quat_to_matrix(after.quats) - R @ quat_to_matrix(before.quats)).abs().max() < 3e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_larger_head_has_larger_gaussians(backend: str) -> None:
    vertices, faces = sphere()
    bound = bound_on(vertices, faces)
    after = bound.pose(1.5 * vertices, backend=backend)
    torch.testing.assert_close(after.scales, 1.5 * bound.canonical.scales, atol=0, rtol=1e-4)
    torch.testing.assert_close(after.means, 1.5 * bound.canonical.means, atol=1e-6, rtol=0)


def plane(n: int = 12) -> tuple[Tensor, Tensor]:
    y, x = torch.meshgrid(torch.linspace(-0.1, 0.1, n), torch.linspace(-0.1, 0.1, n), indexing="ij")
    vertices = torch.stack([x, y, 0 * x], -1).reshape(-1, 3)
    a = (torch.arange(n - 1)[:, None] * n + torch.arange(n - 1)).reshape(-1)
    faces = torch.cat([torch.stack([a, a + 1, a + n + 1], 1), torch.stack([a + n + 1, a + n, a], 1)])
    return vertices, faces


@pytest.mark.parametrize("backend", BACKENDS)
def test_stretching_a_plane_stretches_along_it_alone(backend: str) -> None:
    vertices, faces = plane()
    bound = bound_on(vertices, faces, lift=0.0)
    upright = torch.tensor([1.0, 0.0, 0.0, 0.0])
    canonical = bound.canonical
    aligned = replace(canonical, quats=upright.expand(len(canonical), 4).contiguous())
    N = len(bound.uv)
    parts = [
        Gaussians(*(getattr(aligned, f)[s] for f in ("means", "quats", "scales", "opacities", "colors")))
        for s in (slice(0, N), slice(N, None))
    ]
    where = bound.binding
    bound = BoundGaussians.bind(parts[0], where.face_index, where.barycentric, parts[1], vertices, faces)
    after = bound.pose(vertices * torch.tensor([2.0, 0.5, 1.0]), backend=backend)
    ratio = after.scales / bound.canonical.scales
    # x doubles, y halves, and the area stays, so the normal one does too
    torch.testing.assert_close(ratio, torch.tensor([2.0, 0.5, 1.0]).expand_as(ratio), atol=1e-4, rtol=0)
    assert rotation_error(after.quats, bound.canonical.quats) < 1e-5
    # shear turns by the polar rotation: half the angle that a corner frame would give
    shear = torch.tensor([[1.0, 0.3, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    turned = quat_to_matrix(bound.pose(vertices @ shear.T, backend=backend).quats)
    angle = math.atan2(-0.3, 2.0)
    torch.testing.assert_close(
        turned[:, 1, 0], torch.full((len(turned),), math.sin(angle)), atol=1e-4, rtol=0
    )


def bent(vertices: Tensor) -> Tensor:
    """Wrap the plane's x around a cylinder of 0.06 m: strong curvature, no stretch."""
    angle = vertices[:, 0] / 0.06
    return torch.stack([0.06 * angle.sin(), vertices[:, 1], 0.06 * (angle.cos() - 1)], -1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_facets_neighbours_across_an_edge_move_alike(backend: str) -> None:
    """Two Gaussians at one point of an edge, bound to either face, stay one under any deformation."""
    vertices, faces = sphere()
    edges, pairs = trimesh.Trimesh(vertices.numpy(), faces.numpy(), process=False), None
    pairs = torch.tensor(edges.face_adjacency)  # [E, 2] faces
    ends = torch.tensor(edges.face_adjacency_edges)  # [E, 2] vertices
    share = torch.rand(len(pairs), generator=torch.Generator().manual_seed(4))
    sides = []
    for k in range(2):
        corners = faces[pairs[:, k]]
        weights = (corners == ends[:, :1]) * share[:, None] + (corners == ends[:, 1:]) * (1 - share[:, None])
        sides.append(weights)
    face_index, barycentric = pairs.T.reshape(-1), torch.cat(sides)
    one = random_gaussians(surface_points(vertices, faces, pairs[:, 0], sides[0]), 3)
    uv = Gaussians.concatenate([one, one])
    bound = BoundGaussians.bind(uv, face_index, barycentric, random_gaussians(vertices, 2), vertices, faces)
    wave = 0.02 * torch.sin(40 * vertices[:, [1, 2, 0]])
    posed, E = bound.pose(vertices + wave, backend=backend), len(pairs)
    torch.testing.assert_close(posed.means[:E], posed.means[E : 2 * E], atol=1e-6, rtol=0)
    torch.testing.assert_close(posed.scales[:E], posed.scales[E : 2 * E], atol=0, rtol=1e-3)
    assert rotation_error(posed.quats[:E], posed.quats[E : 2 * E]) < 1e-3


@pytest.mark.parametrize("backend", BACKENDS)
def test_bending_turns_normals_with_the_surface(backend: str) -> None:
    vertices, faces = plane(24)
    flat = bound_on(vertices, faces, N=2000, lift=0.0)
    inner = flat.canonical.means[:, :2].abs().amax(1) < 0.08  # a rim vertex sees one side only
    posed = flat.pose(bent(vertices), backend=backend)
    normal = quat_to_matrix(posed.quats) @ quat_to_matrix(flat.canonical.quats).transpose(1, 2)
    normal = normal[:, :, 2]  # where the plane's +z went
    angle = flat.canonical.means[:, 0] / 0.06
    expected = torch.stack([angle.sin(), torch.zeros_like(angle), angle.cos()], -1)
    assert (normal - expected)[inner].norm(dim=-1).max() < 0.01  # a face spans 0.145 rad
    ratio = (posed.scales / flat.canonical.scales)[inner]
    assert (ratio - 1).abs().max() < 0.01


def test_vertex_gaussians_sit_on_their_vertices() -> None:
    vertices, faces = sphere()
    bound = bound_on(vertices, faces)
    moved = vertices + 0.01 * torch.sin(30 * vertices)
    torch.testing.assert_close(bound.pose(moved).means[len(bound.uv) :], moved, atol=1e-7, rtol=0)


def test_native_is_the_torch_code() -> None:
    vertices, faces = sphere()
    for lift in (0.0, 0.003):
        bound = bound_on(vertices, faces, lift=lift)
        moved = 1.1 * vertices + 0.02 * torch.sin(30 * vertices[:, [2, 0, 1]])
        native, reference = bound.pose(moved, backend="native"), bound.pose(moved, backend="torch")
        torch.testing.assert_close(native.means, reference.means, atol=1e-6, rtol=0)
        torch.testing.assert_close(native.scales, reference.scales, atol=0, rtol=1e-4)
        assert rotation_error(native.quats, reference.quats) < 1e-4


def test_gradients_reach_the_stored_numbers_and_the_vertices() -> None:
    vertices, faces = (t.double() if t.is_floating_point() else t for t in plane(4))
    bound = bound_on(vertices.float(), faces, N=4)
    uv, vertex = bound.tensors()
    names = ("quats", "scales", "local_offsets")
    leaves = [uv[name].double().requires_grad_() for name in names]
    moved = (vertices + 0.02 * torch.sin(30 * vertices[:, [1, 2, 0]])).requires_grad_()

    def pose(*given: Tensor) -> tuple[Tensor, ...]:
        table = {k: v.double() if v.is_floating_point() else v for k, v in uv.items()}
        table |= dict(zip(names, given, strict=False))
        still = {k: v.double() for k, v in vertex.items()}
        posed = BoundGaussians.from_tensors(table, still, vertices, faces).pose(given[3])
        return posed.means[:4], quat_to_matrix(posed.quats[:4]), posed.scales[:4]

    assert torch.autograd.gradcheck(pose, (*leaves, moved), atol=1e-6, eps=1e-7)


def test_odd_meshes_stay_finite() -> None:
    vertices, faces = plane(4)
    lonely = torch.cat([vertices, torch.tensor([[1.0, 1.0, 1.0]])])  # no face
    sliver = torch.cat([faces, torch.tensor([[0, 0, 1], [0, 1, 2]])])  # no area: two corners, then a line
    for frames in (face_frames(lonely, sliver)[1:], vertex_frames(lonely, sliver)):
        R, scale = frames
        assert R.isfinite().all() and scale.isfinite().all() and (scale > 0).all()
        identity = torch.eye(3).expand_as(R)
        torch.testing.assert_close(R @ R.transpose(1, 2), identity, atol=1e-5, rtol=0)
    uv, vertex = random_gaussians(lonely[:2], 0), random_gaussians(lonely, 1)
    index, weights = torch.tensor([len(faces), 0]), torch.full((2, 3), 1 / 3)
    bound = BoundGaussians.bind(uv, index, weights, vertex, lonely, sliver)
    for backend in BACKENDS:
        posed = bound.pose(0 * lonely + lonely[0], backend=backend)  # everything in one point
        assert all(getattr(posed, name).isfinite().all() for name in ("means", "quats", "scales"))
        moved = bound.pose(lonely, backend=backend)
        torch.testing.assert_close(moved.scales[-1], vertex.scales[-1], atol=0, rtol=1e-4)


def test_another_topology_is_refused() -> None:
    vertices, faces = sphere()
    bound = bound_on(vertices, faces)
    with pytest.raises(ValueError, match=r"vertices must be \(642, 3\), got \(10, 3\)"):
        bound.pose(vertices[:10])
    with pytest.raises(ValueError, match="faces differ"):
        bound.pose(vertices, faces.flip(1))
