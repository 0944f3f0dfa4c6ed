"""The decoder's network: nothing at first, everything bounded, and each number does what it is called."""

from __future__ import annotations

import functools

import pytest
import torch

from omega_cli.decode.analytic import Decoded, decode_surface
from omega_cli.decode.learned import decode_learned
from omega_cli.decode.network import AvatarDecoder, DecoderConfig, UVLayout
from omega_cli.decode.residual import AT_VERTEX, COLOURS, ON_TEXEL, Change, changed, moved
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


def learned(net: AvatarDecoder) -> Decoded:
    base, features, weight, identity = scene()
    layout = UVLayout.of(head(), SIZE)
    return decode_learned(net, base, layout, features, weight, identity, head().v_template, head().faces)


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


def test_every_part_of_the_network_learns_once_the_last_layers_speak() -> None:
    net = network()
    for layer in (net.uv.last, net.vertex.last):
        torch.nn.init.normal_(layer.weight, std=0.05)
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
