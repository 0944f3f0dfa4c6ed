"""The pieces that people are made of, against slower ways to the same numbers."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from omega_cli.data.studio.atlas import fixed, glow
from omega_cli.data.studio.light import sphere
from omega_cli.data.studio.noise import ball, band_noise, skip_noise
from omega_cli.data.studio.occlusion import BIAS, SIDE, SOFT, _towards, visibility
from omega_cli.data.studio.people import Person, Sources, _softening
from omega_cli.geometry.raster import rasterize_views


def test_band_noise_is_a_bicubic_map() -> None:
    for cells in (14, 90, 128):
        grid = torch.randn(cells, cells, generator=torch.Generator().manual_seed(3))
        slow = F.interpolate(grid[None, None], (128, 128), mode="bicubic")[0, 0]
        scale = 1.0 if cells == 128 else slow.std()
        fast = band_noise(128, cells, torch.Generator().manual_seed(3))
        assert torch.allclose(fast, slow / scale, atol=2e-5)


def test_skipped_noise_is_drawn() -> None:
    one, two = (torch.Generator().manual_seed(5) for _ in range(2))
    band_noise(64, 200, one), skip_noise(64, 200, two)
    assert torch.equal(torch.randn(4, generator=one), torch.randn(4, generator=two))


def test_fixed_fields_are_made_once(sources: Sources) -> None:
    made = []

    @fixed
    def field(atlas: object, number: int) -> int:
        made.append(number)
        return number

    assert [field(sources.atlas, n) for n in (1, 2, 1, 2)] == [1, 2, 1, 2] and made == [1, 2]
    centre = (0.04, -0.004, 0.078)
    assert torch.equal(glow(sources.atlas, centre, 0.01), ball(sources.atlas.rest, centre, 0.01))


def test_visibility_is_the_depth_maps_answer(people: dict[str, Person]) -> None:
    """Camera by camera, as `rasterize_views` draws it; only points on a texel's border may differ."""
    person = people["short"]
    vertices = torch.cat([person.canonical, person.extras.vertices])
    points = vertices[::3]
    got = visibility(vertices, person.faces, (0.0, 0.0, -0.01), points)
    cameras = [_towards(d, torch.tensor([0.0, 0.0, -0.01])) for d in sphere()]
    for k, (camera, depth) in enumerate(
        zip(cameras, rasterize_views(vertices, person.faces, cameras).depth, strict=True)
    ):
        pixel, z = camera.project(points)
        column, row = pixel.long().clamp(0, SIDE - 1).unbind(1)
        behind = (z - depth[row, column] - BIAS).clamp(0, 0.2)
        apart = (got[:, k] - torch.exp(-behind / SOFT)).abs()
        assert (apart > 1e-3).float().mean() < 1e-3


def test_softening_keeps_constants_and_is_a_mean_of_faces(sources: Sources) -> None:
    model = sources.model
    values = torch.rand(len(model.v_template), 2)
    slow = values
    corners = model.faces.T.reshape(-1)
    degree = torch.bincount(corners, minlength=len(values)).clamp_min(1)[:, None]
    for _ in range(2):
        mean = slow[model.faces].mean(1).repeat(3, 1)
        slow = torch.zeros_like(slow).index_add(0, corners, mean) / degree
    assert torch.allclose(torch.from_numpy(_softening(model) @ values.numpy()), slow, atol=1e-6)
