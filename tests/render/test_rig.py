"""The rig: at rest it is the canonical avatar; the neck's cut edge fades, and nothing else does."""

from __future__ import annotations

import pytest
import torch

from omega_cli.gaussians.binding import BoundGaussians
from omega_cli.gaussians.model import Gaussians
from omega_cli.gaussians.splat import render
from omega_cli.head import hem
from omega_cli.head.assets import load_head
from omega_cli.head.model import HeadModel
from omega_cli.render import film, orbit
from omega_cli.render import rig as rigs


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head()


def scattered(head: HeadModel, vertices: torch.Tensor, N: int = 400) -> BoundGaussians:
    generator = torch.Generator().manual_seed(1)
    face = torch.randint(len(head.faces), (N,), generator=generator)
    weights = torch.rand(N, 3, generator=generator)
    weights = weights / weights.sum(1, keepdim=True)
    means = (vertices[head.faces[face]] * weights[..., None]).sum(1)

    def some(means: torch.Tensor) -> Gaussians:
        n = len(means)
        quats = torch.nn.functional.normalize(torch.randn(n, 4, generator=generator), dim=1)
        return Gaussians(means, quats, torch.full((n, 3), 0.001), torch.full((n,), 0.9), torch.rand(n, 3))

    return BoundGaussians.bind(some(means), face, weights, some(vertices), vertices, head.faces)


@pytest.fixture(scope="module")
def built(head: HeadModel):
    generator = torch.Generator().manual_seed(2)
    params = head.zeros().replace(betas=0.5 * torch.randn(head.S, generator=generator))
    offsets = 0.001 * torch.randn(head.v_template.shape, generator=generator)
    bound = scattered(head, head.identity(params.betas, offsets))
    uv, vertex = bound.tensors()
    return rigs.Rig.build(head, params, offsets, vertex, uv), bound


def test_at_rest_it_is_the_canonical_avatar(built):
    rig, bound = built
    posed = rig.pose(rig.vertices(rig.neutral())[0])
    torch.testing.assert_close(posed.means, bound.canonical.means, atol=2e-6, rtol=0)
    torch.testing.assert_close(posed.colors, bound.canonical.colors)


def test_only_the_hem_fades(built, head: HeadModel):
    rig, bound = built
    edge = hem.hem_edges(head).unique()
    assert 20 < len(edge) < 400
    before, after = bound.canonical, rig.bound.canonical
    away = torch.cdist(before.means, rig.shaped[edge]).amin(1)
    kept = after.opacities / before.opacities
    assert (kept[away > 2 * hem.HEM_FADE] == 1).all()
    assert (kept[away < 0.1 * hem.HEM_FADE] < 0.05).all() and (away < 1e-3).sum() >= len(edge)
    assert head.regions["face"].sum() > 0 and (kept[len(bound.uv) :][head.regions["face"]] == 1).all()


def test_named_shapes_move_their_part_only(built, head: HeadModel):
    rig, _ = built
    still = rig.vertices(rig.neutral())[0]
    blink = rig.vertices(rig.with_shapes({"eyeBlinkLeft": 1.0}))[0]
    moved = (blink - still).norm(dim=1) > 1e-3
    assert moved.any() and (still[moved, 0] > 0).float().mean() > 0.9  # the subject's left
    assert not moved[head.regions["scalp"]].any()


def test_a_film_is_its_frames_one_by_one(built):
    rig, _ = built
    T = film.CHUNK + 2
    turns = torch.linspace(-0.5, 0.5, T)[:, None] * torch.tensor([0.0, 1.0, 0.3])
    motion = rig.neutral().frames([0] * T).replace(neck_pose=turns)
    cameras = orbit.turntable(orbit.frame_head(rig.shaped), T, 64)
    grey = film.background_color("grey")
    seen = list(film.drawn(rig, motion, cameras, grey))
    assert len(seen) == T
    for i in (0, film.CHUNK - 1, film.CHUNK, T - 1):
        alone = rig.pose(rig.vertices(motion.frame(i))[0])
        image = render(alone, cameras[i], background=grey).image
        torch.testing.assert_close(seen[i].image, image, atol=1e-4, rtol=0)
