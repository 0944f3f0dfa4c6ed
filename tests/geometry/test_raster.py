"""Meshes through cameras: geometry of the fragments, interpolation and its gradient."""

from __future__ import annotations

import pytest
import torch
import trimesh
from torch import Tensor

from omega_cli.errors import OmegaError
from omega_cli.geometry.camera import Camera, orthographic, perspective
from omega_cli.geometry.raster import (
    _interpolate_all,
    _interpolate_seen,
    interpolate,
    rasterize,
    rasterize_views,
)

BACKENDS = ["native", "torch"]
CAMERAS = {"pinhole": perspective(30, 80, 0.15), "ortho": orthographic(-70, 80, 0.15, elevation_deg=20)}


def sphere(radius: float = 0.1) -> tuple[Tensor, Tensor]:
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=radius)
    return torch.tensor(mesh.vertices, dtype=torch.float32), torch.tensor(mesh.faces)


def centres(camera: Camera) -> Tensor:  # [H, W, 2]
    row, column = torch.meshgrid(torch.arange(camera.height), torch.arange(camera.width), indexing="ij")
    return torch.stack([column, row], -1) + 0.5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CAMERAS)
def test_seen_points_project_back_to_their_pixels(backend: str, name: str) -> None:
    camera, (vertices, faces) = CAMERAS[name], sphere()
    fragments = rasterize(vertices, faces, camera, backend=backend)
    points = interpolate(fragments, faces, vertices)
    pixels, depth = camera.project(points[fragments.mask])
    torch.testing.assert_close(pixels, centres(camera)[fragments.mask], atol=1e-3, rtol=0)
    torch.testing.assert_close(depth, fragments.depth[fragments.mask], atol=1e-5, rtol=0)
    # the near side: every seen face looks at the camera
    normal = torch.nn.functional.normalize(points[fragments.mask], dim=-1)
    assert ((normal * camera.view_directions(points[fragments.mask])).sum(-1) > -0.1).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_silhouette_of_a_sphere(backend: str) -> None:
    camera, (vertices, faces) = CAMERAS["ortho"], sphere(0.1)
    mask = rasterize(vertices, faces, camera, backend=backend).mask
    radius = (centres(camera) - 40).norm(dim=-1) * 0.3 / 80
    assert mask[radius < 0.0985].all() and not mask[radius > 0.1].any()  # the icosphere lies within 1.5 %


def test_size_scales_the_camera() -> None:
    vertices, faces = sphere()
    camera = CAMERAS["pinhole"]
    fragments = rasterize(vertices, faces, camera, size=160)
    assert torch.equal(fragments.depth, rasterize(vertices, faces, camera.resized(160, 160)).depth)
    assert rasterize(vertices, faces, camera, size=(40, 60)).face_index.shape == (40, 60)


def test_several_cameras_at_once() -> None:
    vertices, faces = sphere()
    cameras = [orthographic(a, 40, 0.2) for a in (0.0, 45.0, 180.0)]
    together = rasterize_views(vertices, faces, cameras)
    for b, camera in enumerate(cameras):
        assert torch.equal(together[b].face_index, rasterize(vertices, faces, camera).face_index)
    with pytest.raises(ValueError, match=r"one image size, got \[\(40, 40\), \(41, 41\)\]"):
        rasterize_views(vertices, faces, [cameras[0], orthographic(0, 41, 0.2)])


def test_interpolation_is_linear_and_its_gradient_the_adjoint() -> None:
    vertices, faces = sphere()
    fragments = rasterize(vertices, faces, CAMERAS["pinhole"])
    values = torch.randn(len(vertices), 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    out = interpolate(fragments, faces, values)
    by_hand = (values[faces[fragments.face_index.clamp_min(0)]] * fragments.barycentric[..., None]).sum(2)
    torch.testing.assert_close(out, by_hand)
    assert not out[~fragments.mask].any()
    g = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    (grad,) = torch.autograd.grad((out * g).sum(), values)
    torch.testing.assert_close((grad * values).sum(), (out * g).sum(), atol=1e-2, rtol=1e-4)
    constant = interpolate(fragments, faces, torch.full((len(vertices), 1), 3.0))
    torch.testing.assert_close(constant[fragments.mask], torch.full((int(fragments.mask.sum()), 1), 3.0))


def test_values_on_another_topology() -> None:
    vertices, faces = sphere()
    fragments = rasterize(vertices, faces, CAMERAS["ortho"])
    own_corners = torch.arange(3 * len(faces)).reshape(-1, 3)  # every face its own three corners
    split = interpolate(fragments, own_corners, vertices[faces].reshape(-1, 3))
    torch.testing.assert_close(split, interpolate(fragments, faces, vertices))


def test_behind_the_camera_there_is_nothing() -> None:
    vertices, faces = sphere()
    camera = CAMERAS["pinhole"]
    behind = vertices + 3 * camera.position
    assert not rasterize(behind, faces, camera).mask.any()


def test_no_gradient_and_clear_errors() -> None:
    vertices, faces = sphere()
    fragments = rasterize(vertices.requires_grad_(), faces, CAMERAS["pinhole"])
    assert not fragments.barycentric.requires_grad and not fragments.depth.requires_grad
    with pytest.raises(ValueError, match="backend must be one of auto, native, torch, pytorch3d"):
        rasterize(vertices, faces, CAMERAS["pinhole"], backend="opengl")
    with pytest.raises(ValueError, match=r"vertices must be \[V, 3\]"):
        rasterize(vertices[None], faces, CAMERAS["pinhole"])


def test_pytorch3d_says_that_it_is_missing() -> None:
    try:
        import pytorch3d  # noqa: F401
    except ImportError:
        vertices, faces = sphere()
        with pytest.raises(OmegaError, match="pytorch3d rasteriser cannot be imported"):
            rasterize(vertices, faces, CAMERAS["pinhole"], backend="pytorch3d")
    else:
        pytest.skip("pytorch3d is installed")


@pytest.mark.parametrize("name", CAMERAS)
def test_pytorch3d_agrees(name: str) -> None:
    pytest.importorskip("pytorch3d")
    vertices, faces = sphere()
    for size in (80, (60, 90)):
        ours = rasterize(vertices, faces, CAMERAS[name], size=size)
        theirs = rasterize(vertices, faces, CAMERAS[name], backend="pytorch3d", size=size)
        same = ours.face_index == theirs.face_index
        assert same.float().mean() > 0.995
        both = same & ours.mask
        torch.testing.assert_close(ours.depth[both], theirs.depth[both], atol=1e-5, rtol=0)
        torch.testing.assert_close(ours.barycentric[both], theirs.barycentric[both], atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", CAMERAS)
def test_both_ways_to_interpolate_are_one_linear_map(name: str) -> None:
    """The CPU's (covered pixels, embedding_bag) and the GPU's (every pixel, three gathers), in double."""
    vertices, faces = sphere()
    fragments = rasterize(vertices, faces, CAMERAS[name])
    index, weights = fragments.face_index.flatten(), fragments.barycentric.reshape(-1, 3).double()
    g = torch.Generator().manual_seed(0)
    values = torch.randn(len(vertices), 5, generator=g, dtype=torch.float64, requires_grad=True)
    seen, all_ = (way(index, weights, faces, values) for way in (_interpolate_seen, _interpolate_all))
    torch.testing.assert_close(all_, seen, atol=1e-14, rtol=0)
    assert not all_[index < 0].any() and (index < 0).any()
    weight = torch.randn(seen.shape, generator=g, dtype=torch.float64)
    grads = [torch.autograd.grad((out * weight).sum(), values)[0] for out in (seen, all_)]
    torch.testing.assert_close(grads[1], grads[0], atol=1e-12, rtol=0)
    broken = values.detach().index_fill(0, faces[index.max()], torch.nan)
    for way in (_interpolate_seen, _interpolate_all):
        assert not way(index, weights, faces, broken)[index < 0].any()


def test_cameras_of_both_kinds_at_once_are_each_alone() -> None:
    vertices, faces = sphere()
    cameras = [CAMERAS["pinhole"], CAMERAS["ortho"], perspective(100, 80, 0.2, elevation_deg=-10)]
    together = rasterize_views(vertices, faces, cameras)
    for b, camera in enumerate(cameras):
        alone = rasterize(vertices, faces, camera)
        for field in vars(alone):
            assert torch.equal(getattr(together[b], field), getattr(alone, field))
