"""The decoder's network: nothing at first, everything bounded, and each number does what it is called."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch

from omega_cli.decode.analytic import Decoded, decode_surface
from omega_cli.decode.learned import Changes, decode_learned, learned_change, refine_decoded
from omega_cli.decode.lids import unfolding
from omega_cli.decode.network import AvatarDecoder, DecoderConfig, UVLayout
from omega_cli.decode.residual import AT_VERTEX, COLOURS, MOST_GROWTH, ON_TEXEL, Change, changed, moved
from omega_cli.gaussians.binding import BoundGaussians
from omega_cli.gaussians.splat import render
from omega_cli.geometry.camera import perspective
from omega_cli.geometry.rotation import quat_to_matrix
from omega_cli.head.assets import load_head

SIZE, FEATURES = 64, 15
head = functools.cache(load_head)


@functools.cache
def scene() -> tuple[Decoded, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(analytic Gaussians, features, weight, identity)"""
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(FEATURES, SIZE, SIZE, generator=generator)
    weight = 0.1 * torch.rand(1, SIZE, SIZE, generator=generator)
    centres = (head().J_regressor @ head().v_template)[3:5]
    base = decode_surface(head(), head().v_template, centres, features, weight)
    return base, features, weight, torch.rand(2 * FEATURES, generator=generator)


def network() -> AvatarDecoder:
    torch.manual_seed(0)
    return AvatarDecoder(DecoderConfig(channels=(16, 24, 32), vertices=len(head().v_template), width=32))


def speaking() -> AvatarDecoder:
    """One whose last layers are not silent."""
    net = network()
    for layer in (net.uv.last, net.vertex.last):
        torch.nn.init.normal_(layer.weight, std=0.05)
    return net


def learned(net: AvatarDecoder, fitted: Changes | None = None) -> Decoded:
    base, *seen = scene()
    return decode_learned(
        net, base, UVLayout.of(head(), SIZE), *seen, head().v_template, head().faces, fitted
    )


def some(N: int, colours: int, *, offset: bool = True, seed: int = 2) -> Change:
    """Changes of the size that a fit finds."""
    generator = torch.Generator().manual_seed(seed)
    colors, opacity, *shape = (
        0.2 * torch.randn(N, width, generator=generator) for width in (colours, 1, 3, 3, 3)
    )
    return Change(colors, opacity[:, 0], *shape[:2], shape[2] if offset else None)


def fitted() -> Changes:
    """What a fit might say of the scene."""
    base = scene()[0]
    return some(len(base.uv), 3), some(len(base.vertex), 3, offset=False, seed=3)


def picture(decoded: Decoded) -> torch.Tensor:
    vertices = head().v_template
    args = decoded.uv, decoded.face_index, decoded.barycentric, decoded.vertex
    bound = BoundGaussians.bind(*args, vertices, head().faces)
    camera = perspective(20.0, 96, 0.17, centre=vertices.mean(0))
    return render(bound.pose(vertices), camera).image[:3]


@torch.no_grad()
def test_an_untrained_network_draws_the_analytic_head_pixel_by_pixel() -> None:
    base, made = scene()[0], learned(network())
    for branch in ("uv", "vertex"):
        before, after = getattr(base, branch), getattr(made, branch)
        assert after.colors.shape[1] == COLOURS and not after.colors[:, 3:].any()
        assert torch.equal(after.colors[:, :3], before.colors)
        for name in ("means", "quats", "scales", "opacities"):
            assert torch.equal(getattr(after, name), getattr(before, name)), (branch, name)
    assert torch.equal(picture(made), picture(base))


@torch.no_grad()
def test_on_a_fit_an_untrained_network_draws_the_fitted_head_bit_for_bit() -> None:
    """As decode files it without a network, in 32 channels."""
    base = refine_decoded(scene()[0], fitted(), head().v_template, head().faces)
    made = learned(network(), fitted())
    for branch in ("uv", "vertex"):
        before, after = getattr(base, branch), getattr(made, branch)
        assert before.colors.shape[1] == 3 and after.colors.shape[1] == COLOURS
        assert torch.equal(after.colors[:, :3], before.colors) and not after.colors[:, 3:].any()
        for name in ("means", "quats", "scales", "opacities"):
            assert torch.equal(getattr(after, name), getattr(before, name)), (branch, name)
            changed_at_all = not torch.equal(getattr(after, name), getattr(getattr(scene()[0], branch), name))
            assert changed_at_all or (branch, name) == ("vertex", "means")
    assert torch.equal(made.texture, base.texture)
    assert torch.equal(base.texture[:, base.covered].T, base.uv.colors)
    assert torch.equal(picture(made), picture(base)) and not torch.equal(picture(made), picture(scene()[0]))


@torch.no_grad()
def test_the_network_is_told_what_was_fitted() -> None:
    """Nothing fitted is the same as a fit that changed nothing; any other one is seen."""
    net, layout = speaking(), UVLayout.of(head(), SIZE)
    base, *seen = scene()
    texels, at_vertices = fitted()
    nothing = Change.of(torch.zeros(len(base.uv), ON_TEXEL))
    shape_alone, colours_alone = (
        replace(texels, colors=nothing.colors),
        replace(nothing, colors=texels.colors),
    )
    fits = (None, (nothing, at_vertices), (shape_alone, at_vertices), (colours_alone, at_vertices))
    unfitted, same, *others = (learned_change(net, base, layout, *seen, fit)[0] for fit in fits)
    assert torch.equal(unfitted.colors, same.colors) and torch.equal(unfitted.shape(), same.shape())
    for other in others:
        assert not torch.equal(other.colors, unfitted.colors)


@torch.no_grad()
def test_skin_that_only_a_blink_unfolds_is_left_alone() -> None:
    net, layout = speaking(), UVLayout.of(head(), SIZE)
    base, *seen = scene()
    texels, at_vertices = learned_change(net, base, layout, *seen)
    unfolds = unfolding(head(), head().v_template)
    lids = head().faces[unfolds == 1].unique()
    assert 20 < len(lids) < 200
    assert not at_vertices.colors[lids].any() and not at_vertices.shape()[lids].any()
    of_lid, far = unfolds[base.face_index] == 1, layout.free[0][base.covered] == 1
    assert bool(of_lid.any()) and float(far.float().mean()) > 0.95
    for numbers in (texels.colors, texels.shape()):
        assert float(numbers[of_lid].abs().max()) < 1e-6 and bool(numbers[far].any(1).all())


def test_fit_and_network_add_up_before_they_are_bounded() -> None:
    one, other = some(7, COLOURS), some(7, 3, seed=5)
    both = one.plus(other)
    assert torch.equal(both.colors[:, :3], one.colors[:, :3] + other.colors)
    assert both.colors.shape == one.colors.shape and torch.equal(both.colors[:, 3:], one.colors[:, 3:])
    assert torch.equal(both.shape(), one.shape() + other.shape())
    large = replace(one, offset=torch.full((7, 3), 2.0), scales=torch.full((7, 3), 3.0))
    shift, growth = large.plus(large).shift(), large.plus(large).growth()
    assert shift is not None and torch.allclose(shift, torch.tensor(4.0).tanh().expand(7, 3))
    assert torch.allclose(growth, MOST_GROWTH * torch.tensor(6.0 / MOST_GROWTH).tanh().expand(7, 3))
    assert one.plus(None) is one
    at_vertex = replace(one, offset=None)
    assert at_vertex.plus(replace(other, offset=None)).offset is None


def test_every_part_of_the_network_learns_once_the_last_layers_speak() -> None:
    net = speaking()
    made = learned(net)
    loss = sum(
        (getattr(g, n) * torch.randn(getattr(g, n).shape, generator=torch.Generator().manual_seed(1))).sum()
        for g in (made.uv, made.vertex)
        for n in ("means", "quats", "scales", "opacities", "colors")
    )
    loss.backward()  # type: ignore[union-attr]
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    # the second convolution of a block is zero, so the first one has no gradient yet
    assert all("conv1" in name or "norm2" in name or "norm1" in name for name in silent), silent


@pytest.mark.parametrize("size", [-50.0, -1.0, 1.0, 50.0])
def test_changes_are_bounded_whatever_the_network_says(size: float) -> None:
    base = scene()[0]
    numbers = torch.full((len(base.uv), ON_TEXEL), size)
    change = Change.of(numbers)
    out = changed(base.uv, change)
    assert float(out.opacities.min()) >= 0 and float(out.opacities.max()) <= 1
    ratio = out.scales / base.uv.scales
    assert float(ratio.min()) > 0.1353 - 1e-3 and float(ratio.max()) < 7.3891 + 1e-2
    assert torch.allclose(out.quats.norm(dim=1), torch.ones(len(out)), atol=1e-5)
    shift = change.shift()
    assert shift is not None and float(shift.abs().max()) <= 1


def test_hidden_gaussians_stay_hidden() -> None:
    base = scene()[0].vertex
    hidden = base.opacities == 0
    assert bool(hidden.any())
    out = changed(base, Change.of(torch.full((len(base), AT_VERTEX), 3.0)))
    assert not out.opacities[hidden].any() and float(out.opacities[~hidden].min()) > 0.99


def test_an_offset_along_the_normal_lifts_off_the_surface_by_face_scales() -> None:
    base = scene()[0]
    shift = torch.tensor([0.0, 0.0, 0.5]).expand(len(base.uv), 3)
    out = moved(base.uv, shift, head().v_template, head().faces, base.face_index)
    step = out.means - base.uv.means
    normal = quat_to_matrix(base.uv.quats)[:, :, 2]
    along = (step * normal).sum(1) / step.norm(dim=1).clamp_min(1e-9)
    assert float(along.median()) > 0.999


def test_a_change_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="42"):
        Change.of(torch.zeros(3, 17))
