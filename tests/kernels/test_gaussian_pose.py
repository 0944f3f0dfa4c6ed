"""The posing operator alone; what posing means is proven in tests/gaussians/test_binding.py."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import trimesh
from torch import Tensor

from omega_cli.gaussians.binding import pose_gaussians
from omega_cli.gaussians.model import Gaussians
from omega_cli.gaussians.surface_motion import SurfaceMotion
from omega_cli.kernels.gaussian_pose import gaussian_pose

STENCIL = ("offsets", "columns", "weights_t", "weights_b", "frame", "products", "usable")


def bound(N: int, shifted: bool = True) -> tuple[tuple[Tensor | None, ...], Gaussians, SurfaceMotion]:
    """(arguments of the operator, the canonical Gaussians, the motion) on a ball that is being bent."""
    mesh = trimesh.creation.icosphere(subdivisions=2, radius=0.1)
    vertices, faces = torch.tensor(mesh.vertices, dtype=torch.float32), torch.tensor(mesh.faces)
    posed = vertices * torch.tensor([1.2, 0.9, 1.0]) + 0.3 * vertices.flip(1).square()
    g = torch.Generator().manual_seed(N)
    corners = faces[torch.randint(0, len(faces), (N,), generator=g)]
    barycentric = F.normalize(torch.rand(N, 3, generator=g), p=1, dim=-1)
    shift = 0.003 * torch.randn(N, 3, generator=g) if shifted else None
    means = (vertices[corners] * barycentric[..., None]).sum(1) + (0 if shift is None else shift)
    quats = F.normalize(torch.randn(N, 4, generator=g), dim=-1)
    canonical = Gaussians(
        means, quats, torch.rand(N, 3, generator=g) * 0.002, torch.rand(N), torch.rand(N, 3)
    )
    motion = SurfaceMotion.between(vertices, faces)
    surface = [getattr(motion, name) for name in STENCIL]
    corners = corners.to(torch.int32).contiguous()
    arguments = (posed, *surface, corners, barycentric, shift, canonical.quats, canonical.scales)
    return arguments, canonical, motion


def reference(arguments: tuple[Tensor | None, ...], canonical: Gaussians, motion: SurfaceMotion) -> Gaussians:
    posed, (corners, barycentric, shift) = arguments[0], arguments[8:11]
    assert posed is not None and corners is not None and barycentric is not None
    return pose_gaussians(canonical, motion, posed, corners, barycentric, shift, backend="torch")


def assert_same_pose(got: tuple[Tensor, ...], wanted: Gaussians, atol: float = 2e-5) -> None:
    torch.testing.assert_close(got[0], wanted.means, atol=1e-6, rtol=0)  # m; 6e-8 seen
    sign = (got[1] * wanted.quats).sum(-1, keepdim=True).sign()
    torch.testing.assert_close(sign * got[1], wanted.quats, atol=atol, rtol=0)  # 1e-6 seen
    torch.testing.assert_close(got[2], wanted.scales, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("N", [1, 5, 16, 33, 1000])
@pytest.mark.parametrize("shifted", [True, False])
def test_native_equals_reference(N: int, shifted: bool, vector_width: int) -> None:
    arguments, canonical, motion = bound(N, shifted)
    assert_same_pose(gaussian_pose(*arguments), reference(arguments, canonical, motion))


def test_strides_do_not_matter() -> None:
    arguments, _, _ = bound(200)
    strided = [None if t is None else torch.stack([t, t], -1)[..., 0] for t in arguments]
    assert not any(t.is_contiguous() for t in strided if t is not None)
    for a, b in zip(gaussian_pose(*strided), gaussian_pose(*arguments), strict=True):
        assert torch.equal(a, b)


def test_no_gaussians_at_all() -> None:
    arguments, _, _ = bound(3)
    means, quats, scales = gaussian_pose(*arguments[:8], *(t[:0] for t in arguments[8:] if t is not None))
    assert means.shape == (0, 3) and quats.shape == (0, 4) and scales.shape == (0, 3)


def test_a_broken_gaussian_and_a_broken_vertex_stay_alone(vector_width: int) -> None:
    arguments, _, motion = bound(300)
    posed, corners, quats = arguments[0], arguments[8], arguments[11]
    assert posed is not None and corners is not None and quats is not None
    clean = gaussian_pose(*arguments)
    broken = quats.clone()
    broken[17, 1] = float("nan")
    got = gaussian_pose(*arguments[:11], broken, arguments[12])
    others = torch.arange(300) != 17
    for a, b in zip(got, clean, strict=True):
        assert torch.equal(a[others], b[others])
    moved = posed.clone()
    moved[5] = float("nan")
    got = gaussian_pose(moved, *arguments[1:])
    row = torch.bucketize(torch.arange(len(motion.columns)), motion.offsets, right=True) - 1
    measured_with_it = row[motion.columns == 5]
    far = ~torch.isin(corners, measured_with_it).any(1)
    assert far.sum() > 200
    for a, b in zip(got, clean, strict=True):
        assert torch.equal(a[far], b[far])


def test_the_same_bits_for_any_number_of_threads(with_threads: None) -> None:
    arguments, _, _ = bound(3000)
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(gaussian_pose(*arguments))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("shifted", [True, False])
def test_operator_is_well_formed(shifted: bool) -> None:
    torch.library.opcheck(gaussian_pose.overload, bound(20, shifted)[0])
