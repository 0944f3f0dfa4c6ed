"""Pixels to UV on an ellipsoid whose texture is known in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from omega_cli.geometry.camera import orthographic, perspective
from omega_cli.splat_uv.canonical import canonical_map
from omega_cli.splat_uv.pixels import depth_edges, part_edges, pixel_samples, spread_max, view_samples

SIDE = 160
AZIMUTHS = (0, 45, 90, 180, 270, 315)


def camera(azimuth: float):
    return orthographic(azimuth, SIDE, 0.13)


def texture(uv: torch.Tensor) -> torch.Tensor:  # [..., 2] -> [..., 3], smooth and periodic in u
    u, v = uv.unbind(-1)
    wave = torch.sin(2 * math.pi * u * 3)
    return torch.stack([0.5 + 0.4 * wave, v, 0.5 + 0.3 * torch.cos(2 * math.pi * u) * v], -1)


def views(ball, alpha=None):
    samples, images = [], []
    for azimuth in AZIMUTHS:
        a = torch.ones(SIDE, SIDE) if alpha is None else alpha(azimuth)
        s = pixel_samples(camera(azimuth), ball.vertices, ball.faces, ball.uvs, ball.uv_faces, a)
        image = torch.zeros(3, SIDE * SIDE)
        image[:, s.pixel] = texture(s.uv).T
        samples.append(s)
        images.append(image.view(3, SIDE, SIDE))
    return samples, images


def test_pixels_land_where_they_see_the_surface(ball) -> None:
    s = pixel_samples(camera(0), ball.vertices, ball.faces, ball.uvs, ball.uv_faces, torch.ones(SIDE, SIDE))
    points = s.points(ball.vertices, ball.faces)
    projected, _ = camera(0).project(points)
    centre = torch.stack([s.pixel % SIDE + 0.5, s.pixel // SIDE + 0.5], -1)
    assert (projected - centre).abs().max() < 1e-3
    expected = torch.stack([points[:, 0] / 0.08, points[:, 1] / 0.11, points[:, 2] / 0.09], -1)
    azimuth = torch.atan2(expected[:, 0], expected[:, 2]) / (2 * math.pi) + 0.5
    assert (s.uv[:, 0] - azimuth).abs().max() < 0.01 and (s.uv[:, 0] - 0.5).abs().max() < 0.26
    normal = torch.nn.functional.normalize(points / torch.tensor([0.08, 0.11, 0.09]) ** 2, dim=-1)
    assert (s.cosine - normal[:, 2]).abs().max() < 0.03
    assert s.reliability.min() > 0.99


def test_six_views_give_back_the_texture(ball) -> None:
    samples, images = views(ball)
    out = canonical_map(images, samples, [1, 0.7, 0.5, 0.5, 0.5, 0.7], uv_size=64, confidence_power=4.0)
    i = (torch.arange(64) + 0.5) / 64
    truth = texture(torch.stack(torch.meshgrid(i, i, indexing="xy"), -1)).permute(2, 0, 1)
    error = (out.features - truth).abs().amax(0)
    belt = slice(12, 52)  # the poles face no view
    assert out.weight[0, belt].min() > 0.01
    assert error[belt].median() < 0.02 and error[belt].quantile(0.99) < 0.08


def test_the_background_does_not_reach_the_texels(ball) -> None:
    """A mask tighter than the mesh: what lies outside is red and must not come through."""

    def disc(_: float) -> torch.Tensor:
        y, x = torch.meshgrid(*[torch.arange(SIDE) + 0.5 - SIDE / 2] * 2, indexing="ij")
        return ((x**2 + y**2).sqrt() < 40).float()

    samples, _ = views(ball, disc)
    images = []
    for azimuth in AZIMUTHS:
        soft = torch.nn.functional.avg_pool2d(disc(azimuth)[None], 3, 1, 1)  # as a resampled photo has it
        images.append(torch.cat([1 - soft, torch.zeros(2, SIDE, SIDE)]))
    out = canonical_map(images, samples, [1.0] * 6, uv_size=64)
    assert out.features[0].max() < 0.01


def test_gradient_flows_to_the_features_of_the_pixels_that_count_and_to_no_others(ball) -> None:
    samples, images = views(ball)
    images = [image.requires_grad_() for image in images]
    canonical_map(images, samples, [1.0] * 6, uv_size=64).features.sum().backward()
    for image, s in zip(images, samples, strict=True):
        got = image.grad.flatten(1).abs().sum(0) > 0
        used = torch.zeros(SIDE * SIDE, dtype=torch.bool)
        used[s.pixel] = True
        assert (got & ~used).sum() == 0 and (got & used).sum() > 0.95 * used.sum()


def test_edges_of_depth_and_of_parts() -> None:
    depth = torch.full((9, 9), 1.0)
    depth[:, 5:] = 1.05
    edge = depth_edges(depth)
    assert edge[:, 4:6].all() and not edge[:, :4].any() and not edge[:, 6:].any()
    depth[:, 5:] = math.inf
    assert torch.equal(depth_edges(depth)[:, :5], edge[:, :5])  # the mesh's outline is an edge too
    part = torch.full((11, 11), -1)
    part[:, 1:6], part[:, 6:10] = 0, 1
    near = part_edges(part)[5]
    assert near.tolist() == [False] * 5 + [True] * 2 + [False] * 4


@pytest.mark.parametrize("shape", [(2, 33, 40), (1, 1, 9), (7, 2), (1, 1)])
@pytest.mark.parametrize("radius", [1, 2, 3])
def test_the_largest_value_around_is_that_of_pooling(shape, radius) -> None:
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    before = image.clone()
    pooled = torch.nn.functional.max_pool2d(image.view(1, -1, *shape[-2:]), 2 * radius + 1, 1, radius)
    assert torch.equal(spread_max(image, radius), pooled.view(shape)) and torch.equal(image, before)


@pytest.mark.parametrize("azimuth", AZIMUTHS)
def test_a_mirrored_head_gives_mirrored_samples(ball, azimuth) -> None:
    flip = torch.tensor([-1.0, 1.0, 1.0])
    alpha = torch.ones(SIDE, SIDE)
    here = pixel_samples(camera(azimuth), ball.vertices, ball.faces, ball.uvs, ball.uv_faces, alpha)
    uvs = torch.stack([1 - ball.uvs[:, 0], ball.uvs[:, 1]], -1)
    there = pixel_samples(
        camera(-azimuth), ball.vertices * flip, ball.faces.flip(1), uvs, ball.uv_faces.flip(1), alpha
    )
    seen = [torch.zeros(SIDE, SIDE, 2) for _ in range(2)]
    for image, s in zip(seen, (here, there), strict=True):
        image.view(-1, 2)[s.pixel] = s.uv
    both = (seen[0].sum(-1) > 0) & (seen[1].flip(1).sum(-1) > 0)
    mirrored = seen[1].flip(1)[both]
    # Pixels at the outline may fall to either side of the limit.
    assert both.sum() > 0.99 * max(len(here.pixel), len(there.pixel))
    assert (1 - mirrored[:, 0] - seen[0][both][:, 0]).abs().max() < 1e-3
    assert (mirrored[:, 1] - seen[0][both][:, 1]).abs().max() < 1e-3


@pytest.mark.parametrize("make", [orthographic, perspective])
def test_views_together_say_what_each_says_alone(ball, make) -> None:
    """The GPU's way, every pixel of every view, and the CPU's, the chosen ones: samples and map."""
    cameras = [make(azimuth, SIDE, 0.13) for azimuth in AZIMUTHS]
    g = torch.Generator().manual_seed(0)
    alphas = [torch.rand(SIDE, SIDE, generator=g).sqrt() for _ in cameras]
    part = (torch.arange(len(ball.faces)) > len(ball.faces) // 2).long()
    mesh = (ball.vertices, ball.faces, ball.uvs, ball.uv_faces, alphas, part)
    alone, (together,) = view_samples(cameras, *mesh), view_samples(cameras, *mesh, together=True)
    assert together.together and not alone[0].together
    for k, sample in enumerate(alone):
        assert torch.equal(torch.nonzero(together.reliability[k])[:, 0], sample.pixel)
        for name in ("pixel", "uv", "cosine", "reliability", "face_index", "barycentric"):
            picked = getattr(together, name)[k, sample.pixel]
            torch.testing.assert_close(picked, getattr(sample, name), atol=1e-6, rtol=0)
    faded = [s.keep(s.reliability * 0.1) for s in alone]
    others = together.keep(together.reliability * 0.1)
    assert [len(s.pixel) for s in faded] == (others.reliability > 0).sum(1).tolist()
    images = torch.rand(len(cameras), 3, SIDE, SIDE, generator=g)
    weights = [1, 0.7, 0.5, 0.5, 0.5, 0.7]
    one = canonical_map(list(images), faded, weights, uv_size=64, confidence_power=4.0)
    other = canonical_map([images], [others], torch.tensor(weights), uv_size=64, confidence_power=4.0)
    torch.testing.assert_close(other.features, one.features, atol=2e-5, rtol=0)
    torch.testing.assert_close(other.weight, one.weight, atol=1e-5, rtol=0)
    assert len(other.pyramids[0].views()) == len(one.pyramids)
