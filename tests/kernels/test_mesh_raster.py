"""The mesh z-buffer: native = reference, no cracks, nearest wins."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from omega_cli.kernels.mesh_raster import Fragments, _mesh_raster, rasterize_mesh

BACKENDS = ["native", "torch"]


def soup(count: int, H: int, W: int, seed: int, perspective: bool) -> tuple[Tensor, Tensor]:
    """Random triangles in clip space, some reaching out of the image or behind the near plane."""
    g = torch.Generator().manual_seed(seed)
    pixel = torch.rand(count, 1, 2, generator=g) * torch.tensor([W * 1.2, H * 1.2]) - 0.1 * W
    pixel = pixel + torch.randn(count, 3, 2, generator=g) * 0.15 * W
    z = 0.5 + torch.rand(count, 3, 1, generator=g)
    z[: count // 10, 0] = -0.2
    w = z if perspective else torch.ones_like(z)
    clip = torch.cat([pixel * w, z, w], -1).reshape(-1, 4)
    return clip, torch.arange(3 * count).reshape(count, 3)


def grid_mesh(n: int, jitter: float, size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A wavy sheet of 2 n^2 triangles over the whole image, inner vertices moved at random."""
    g = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(n + 1.0), torch.arange(n + 1.0), indexing="ij")
    moved = torch.rand(2, n + 1, n + 1, generator=g) - 0.5
    moved[:, [0, -1]] = moved[:, :, [0, -1]] = 0
    pixel = (torch.stack([x, y]) + jitter * moved).reshape(2, -1).T * size / n
    z = 1 + 0.3 * torch.rand(len(pixel), 1, generator=g)
    corner = (torch.arange(n)[:, None] * (n + 1) + torch.arange(n)).reshape(-1)
    a, b, c, d = corner, corner + 1, corner + n + 2, corner + n + 1
    faces = torch.cat([torch.stack([a, b, c], 1), torch.stack([c, d, a], 1)])
    return torch.cat([pixel * z, z, z], 1), faces


def assert_same(got: Fragments, wanted: Fragments, mismatches: float) -> None:
    same = got.face_index == wanted.face_index
    assert (~same).float().mean() <= mismatches
    both = same & got.mask
    torch.testing.assert_close(got.depth[both], wanted.depth[both], atol=1e-4, rtol=0)
    torch.testing.assert_close(got.barycentric[both], wanted.barycentric[both], atol=2e-3, rtol=0)


@pytest.mark.parametrize("perspective", [True, False])
def test_native_equals_reference(perspective: bool, vector_width: int) -> None:
    for count, (H, W), seed in ((1, (8, 8), 0), (60, (50, 37), 1), (300, (64, 100), 2), (40, (1, 33), 3)):
        clip, faces = soup(count, H, W, seed, perspective)
        got = rasterize_mesh(clip, faces, (H, W), backend="native")
        wanted = rasterize_mesh(clip, faces, (H, W), backend="torch")
        assert_same(got, wanted, mismatches=2e-3)  # a pixel centre on an edge may fall to either side


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sheet_has_no_cracks(backend: str, vector_width: int) -> None:
    for jitter, seed in ((0.0, 0), (0.9, 1), (0.9, 2)):
        clip, faces = grid_mesh(16, jitter, 64, seed)  # jitter 0: edges run through pixel corners
        fragments = rasterize_mesh(clip, faces, (64, 64), backend=backend)
        assert fragments.mask.all()
        # at the chosen point of the chosen face the sheet projects to the pixel centre
        point = (clip[faces[fragments.face_index]] * fragments.barycentric[..., None]).sum(2)
        row, column = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
        centre = torch.stack([column, row], -1) + 0.5
        torch.testing.assert_close(point[..., :2] / point[..., 3:], centre, atol=2e-4, rtol=0)
        torch.testing.assert_close(point[..., 2], fragments.depth, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_edges_through_pixel_centres_leave_no_crack(backend: str) -> None:
    corners = torch.tensor([[0.5, 0.5], [8.5, 0.5], [8.5, 8.5], [0.5, 8.5]])
    clip = torch.cat([corners, torch.ones(4, 2)], 1)
    fragments = rasterize_mesh(clip, torch.tensor([[0, 1, 2], [0, 3, 2]]), (9, 9), backend=backend)
    assert fragments.mask.all()
    assert (fragments.face_index.diagonal() == 0).all()  # on the shared diagonal the lower index wins


@pytest.mark.parametrize("backend", BACKENDS)
def test_axis_aligned_square_covers_exactly_its_pixels(backend: str) -> None:
    corners = torch.tensor([[2.2, 1.0], [6.6, 1.0], [6.6, 4.2], [2.2, 4.2]])
    clip = torch.cat([corners, torch.full((4, 1), 3.0), torch.ones(4, 1)], 1)
    fragments = rasterize_mesh(clip, torch.tensor([[0, 1, 2], [2, 3, 0]]), (8, 8), backend=backend)
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[1:4, 2:7] = True  # centres 1.5 .. 3.5 and 2.5 .. 6.5
    assert torch.equal(fragments.mask, expected)
    torch.testing.assert_close(fragments.depth[expected], torch.full((15,), 3.0))
    assert fragments.depth[~expected].isinf().all()
    assert not fragments.barycentric[~expected].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_nearest_wins_and_equal_depth_goes_to_the_lower_index(backend: str) -> None:
    square = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    depths = (2.0, 1.0, 1.0, 3.0)
    clip = torch.cat([torch.cat([square * z, torch.full((3, 2), z)], 1) for z in depths])
    fragments = rasterize_mesh(clip, torch.arange(12).reshape(4, 3), (4, 4), backend=backend)
    assert (fragments.face_index == 1).all()
    torch.testing.assert_close(fragments.depth, torch.ones(4, 4))
    flipped = rasterize_mesh(clip, torch.arange(12).reshape(4, 3).flip(1), (4, 4), backend=backend)
    assert torch.equal(flipped.face_index, fragments.face_index)  # both sides are drawn


@pytest.mark.parametrize("backend", BACKENDS)
def test_broken_faces_are_left_out_whole(backend: str) -> None:
    clip = torch.tensor([[0.0, 0.0, 1.0, 1.0], [9.0, 0.0, 1.0, 1.0], [0.0, 9.0, 1.0, 1.0]]).repeat(6, 1)
    clip[:, 2] = torch.arange(1.0, 7).repeat_interleave(3)
    clip[0, 0] = float("nan")
    clip[3, 2] = float("inf")
    clip[6, 2] = 0.005  # nearer than the near plane
    clip[9, 3] = 0.0
    clip[12:15, 0] = 2.0  # no area
    fragments = rasterize_mesh(clip, torch.arange(18).reshape(6, 3), (4, 4), backend=backend)
    assert (fragments.face_index == 5).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_to_draw_and_faces_that_do_not_exist(backend: str) -> None:
    clip = torch.ones(3, 4)
    fragments = rasterize_mesh(clip, torch.zeros(0, 3, dtype=torch.int64), (5, 6), backend=backend)
    assert fragments.face_index.shape == (5, 6) and not fragments.mask.any()
    assert fragments.depth.isinf().all()
    for wrong in (3, -1):
        with pytest.raises(ValueError, match=r"outside 0 \.\. 2"):
            rasterize_mesh(clip, torch.tensor([[0, 1, wrong]]), (4, 4), backend=backend)


def test_the_same_bits_for_any_number_of_threads(with_threads: None) -> None:
    clip, faces = soup(400, 90, 80, 4, True)
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(rasterize_mesh(clip, faces, (90, 80), backend="native"))
    for other in results[1:]:
        assert torch.equal(other.face_index, results[0].face_index)
        assert torch.equal(other.barycentric, results[0].barycentric)
        assert torch.equal(other.depth, results[0].depth)


def test_operator_is_well_formed() -> None:
    clip, faces = soup(10, 20, 20, 0, True)
    torch.library.opcheck(_mesh_raster.overload, (clip[None], faces, 20, 20))


@pytest.mark.parametrize("backend", BACKENDS)
def test_several_views_are_each_view_alone(backend: str) -> None:
    clip, faces = soup(50, 24, 30, 5, perspective=True)
    views = torch.stack([clip, clip * torch.tensor([0.5, 0.5, 1.0, 1.0]), clip.flip(0)])
    together = rasterize_mesh(views, faces, (24, 30), backend=backend)
    assert together.face_index.shape == (3, 24, 30) and together.barycentric.shape == (3, 24, 30, 3)
    for b in range(3):
        alone = rasterize_mesh(views[b], faces, (24, 30), backend=backend)
        for name in ("face_index", "barycentric", "depth"):
            assert torch.equal(getattr(together[b], name), getattr(alone, name))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_vertex_takes_its_own_faces_away(backend: str, value: float, vector_width: int) -> None:
    clip, faces = grid_mesh(8, 0.5, 40)
    whole = rasterize_mesh(clip, faces, (40, 40), backend=backend)
    vertex = 4 * 9 + 4  # in the middle
    for coordinate in range(4):
        broken = clip.clone()
        broken[vertex, coordinate] = value
        left = rasterize_mesh(broken, faces, (40, 40), backend=backend)
        lost = (faces == vertex).any(1)[whole.face_index]
        assert lost.any() and not left.mask[lost].any()
        for name in ("face_index", "barycentric", "depth"):
            assert torch.equal(getattr(left, name)[~lost], getattr(whole, name)[~lost])


@pytest.mark.parametrize("backend", BACKENDS)
def test_everything_outside_the_image(backend: str) -> None:
    clip, faces = soup(40, 20, 20, 6, perspective=True)
    clip[:, 0] += 100 * clip[:, 3]
    fragments = rasterize_mesh(clip, faces, (20, 20), backend=backend)
    assert not fragments.mask.any() and fragments.depth.isinf().all() and not fragments.barycentric.any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_strides_do_not_matter(backend: str) -> None:
    clip, faces = soup(50, 24, 30, 7, perspective=True)
    wanted = rasterize_mesh(clip, faces, (24, 30), backend=backend)
    strided = torch.stack([clip, -clip], -1)[..., 0], faces.T.contiguous().T
    assert not any(t.is_contiguous() for t in strided)
    views = clip.expand(2, -1, -1)  # two views of one memory
    for got in (
        rasterize_mesh(*strided, (24, 30), backend=backend),
        rasterize_mesh(clip, faces.int(), (24, 30), backend=backend),
        rasterize_mesh(views, faces, (24, 30), backend=backend)[1],
    ):
        for name in ("face_index", "barycentric", "depth"):
            assert torch.equal(getattr(got, name), getattr(wanted, name))


@pytest.mark.parametrize("backend", BACKENDS)
def test_order_of_faces_and_vertices_does_not_matter(backend: str) -> None:
    """The same surface under other numbers: the same picture, with the faces' new numbers."""
    clip, faces = soup(60, 30, 30, 8, perspective=True)
    wanted = rasterize_mesh(clip, faces, (30, 30), backend=backend)
    g = torch.Generator().manual_seed(1)
    order, places = torch.randperm(len(faces), generator=g), torch.randperm(len(clip), generator=g)
    moved = torch.empty_like(clip)
    moved[places] = clip  # vertex v is now number places[v]
    got = rasterize_mesh(moved, places[faces][order], (30, 30), backend=backend)
    assert torch.equal(got.mask, wanted.mask)
    numbers = torch.where(got.mask, order[got.face_index], -1)
    assert torch.equal(numbers, wanted.face_index)
    # edges are measured from the lower-numbered end: another rounding
    torch.testing.assert_close(got.barycentric, wanted.barycentric, atol=1e-4, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_barycentrics_are_a_partition(backend: str, vector_width: int) -> None:
    clip, faces = soup(200, 60, 60, 9, perspective=True)
    fragments = rasterize_mesh(clip, faces, (60, 60), backend=backend)
    inside = fragments.barycentric[fragments.mask]
    assert inside.min() >= -1e-6
    torch.testing.assert_close(inside.sum(-1), torch.ones(len(inside)), atol=1e-5, rtol=0)
    nearest, farthest = clip[faces, 2].aminmax(dim=1)
    seen, depth = fragments.face_index[fragments.mask], fragments.depth[fragments.mask]
    assert (depth >= nearest[seen] - 1e-5).all() and (depth <= farthest[seen] + 1e-5).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_sizes_beyond_32_bits_are_refused(backend: str) -> None:
    """Before anything as large is made."""
    clip, faces = torch.ones(3, 4), torch.tensor([[0, 1, 2]])
    with pytest.raises(ValueError, match="pixels: 2147483648 is too many, the limit is 2147483647"):
        rasterize_mesh(clip, faces, (1 << 16, 1 << 15), backend=backend)
    with pytest.raises(ValueError, match="faces: 2147483648 is too many"):
        rasterize_mesh(clip, faces.expand(1 << 31, 3), (4, 4), backend=backend)
