"""UV rasterisation: exact cover of a known square, centres, and recovered positions."""

from __future__ import annotations

import torch

from omega_cli.geometry.uvmap import count_uv, rasterize_uv, texel_positions, uv_areas

QUAD = torch.tensor([[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]])
FACES = torch.tensor([[0, 2, 1], [0, 3, 2]])  # counter-clockwise to a viewer whose v points down


def test_a_quad_covers_its_texels_once() -> None:
    face_index, barycentric = rasterize_uv(QUAD, FACES, 16)
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[4:12, 4:12] = True
    assert torch.equal(face_index >= 0, inside)
    assert torch.allclose(barycentric[inside].sum(1), torch.ones(64))
    assert (barycentric[~inside] == 0).all()
    assert (uv_areas(QUAD, FACES) - 0.125).abs().max() < 1e-7
    assert (face_index.diagonal()[4:12] == 0).all()  # the shared edge goes to the lower face
    assert count_uv(QUAD, FACES, 16).max() == 1
    assert count_uv(QUAD, torch.cat([FACES, FACES[:1]]), 16).max() == 2


def test_texel_positions_are_the_texel_centres_of_a_flat_patch() -> None:
    vertices = torch.cat([QUAD, torch.zeros(4, 1)], dim=1)
    raster = rasterize_uv(QUAD, FACES, 32)
    where = texel_positions(vertices, FACES, raster)
    centre = (torch.arange(32) + 0.5) / 32
    x, y = torch.meshgrid(centre, centre, indexing="xy")
    wanted = torch.stack([x, y, torch.zeros_like(x)], -1)
    assert (where - wanted)[raster.covered].abs().max() < 1e-6
    assert (where[~raster.covered] == 0).all()


def test_every_point_of_a_random_soup_is_found_by_its_own_triangle() -> None:
    generator = torch.Generator().manual_seed(3)
    uvs = torch.rand(60, 2, generator=generator)
    faces = torch.arange(60).reshape(20, 3)
    raster = rasterize_uv(uvs, faces, 64)
    index, weights = raster
    at = (uvs[faces[index.clamp_min(0)]] * weights[..., None]).sum(-2)
    centre = (torch.arange(64) + 0.5) / 64
    x, y = torch.meshgrid(centre, centre, indexing="xy")
    error = (at - torch.stack([x, y], -1)).abs().amax(-1)
    assert error[raster.covered].max() < 1e-5
