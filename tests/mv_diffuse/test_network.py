"""The view network: nothing at first, small as a file, and how its answer becomes views."""

from __future__ import annotations

import math

import pytest
import torch

from omega_cli.errors import OmegaError
from omega_cli.geometry.camera import orthographic
from omega_cli.geometry.similarity import similarity
from omega_cli.mv_diffuse import checkpoint
from omega_cli.mv_diffuse.conditioning import (
    INPUTS,
    apply_residual,
    base_of,
    lift_maps,
    main_part,
    network_input,
    photo_maps,
    without_confetti,
)
from omega_cli.mv_diffuse.lift import View
from omega_cli.mv_diffuse.network import ViewNet, ViewNetConfig
from omega_cli.mv_diffuse.predict import cuts_crown, predict_views, raised, settle, with_outline
from omega_cli.mv_diffuse.stage import wears_a_hat

TINY = ViewNetConfig(channels=(16, 16, 32), width=64, layers=1, embedding=16, positions=4)
SIZE = 64


def view(azimuth: float, seed: int = 0) -> View:
    """A disc of random colour on white."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    inside = ((x - 32).square() + (y - 30).square() < 20**2)[None].float()
    rgb = torch.rand(3, SIZE, SIZE, generator=generator) * inside + 1 - inside
    normal = torch.nn.functional.normalize(torch.randn(3, SIZE, SIZE, generator=generator), dim=0)
    camera = orthographic(azimuth, SIZE, 0.21)
    return View(camera, rgb, torch.where(inside > 0, normal, 1.0), inside, 0.5 * inside, 0.1 * inside)


def six() -> list[View]:
    return [view(azimuth, i) for i, azimuth in enumerate((0, 45, 90, 180, 270, 315))]


def woken(net: ViewNet) -> ViewNet:
    """The same network with a last layer that says something."""
    with torch.no_grad():
        net.last.weight.normal_(0, 0.02, generator=torch.Generator().manual_seed(1))
    return net


def photo() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(4, SIZE, SIZE, generator=generator), torch.randint(
        0, 15, (SIZE, SIZE), generator=generator
    )


def test_an_untrained_network_gives_the_lift_back_bit_for_bit():
    rgba, labels = photo()
    points = 0.05 * torch.randn(68, 3, generator=torch.Generator().manual_seed(2))
    views = six()
    out = predict_views(ViewNet(TINY).eval(), views, rgba, labels, labels >= 0, views[0].camera, points, 32)
    for before, after in zip(views, out, strict=True):
        assert all(torch.equal(getattr(before, n), getattr(after, n)) for n in ("rgb", "normal", "mask"))


def test_every_view_hears_of_every_other_and_of_the_photo():
    net = woken(ViewNet(TINY).eval())
    rgba, labels = photo()
    camera, points = six()[0].camera, 0.05 * torch.randn(68, 3, generator=torch.Generator().manual_seed(2))
    lift = lift_maps(six(), 32)[None]
    told = photo_maps(rgba, labels, camera, camera, points, 32)[None]
    x = network_input(lift, told)
    assert x.shape == (1, 7, INPUTS, 32, 32)
    with torch.no_grad():
        plain = net(x)
        for source in range(7):
            other = x.clone()
            other[:, source] += 0.5
            changed = (net(other) - plain).abs().amax((2, 3, 4))[0]
            assert (changed > 0).all(), source


@pytest.mark.parametrize("size", [32, 48, 64])
def test_any_multiple_of_eight_is_a_size(size):
    with torch.no_grad():
        assert ViewNet(TINY)(torch.zeros(2, 7, INPUTS, size, size)).shape == (2, 6, 7, size, size)


def test_a_photo_is_laid_where_the_front_view_has_its_landmarks():
    front = orthographic(0, SIZE, 0.21)
    points = torch.tensor([[0.05, 0.05, 0.0], [-0.05, 0.05, 0.0], [0.0, -0.06, 0.0]])
    turned = torch.tensor(
        [[math.cos(0.2), -math.sin(0.2), 0], [math.sin(0.2), math.cos(0.2), 0], [0, 0, 1.0]]
    )
    viewmat = front.viewmat.clone()
    viewmat[:3, :3] = turned @ viewmat[:3, :3]
    tilted = type(front)(front.K.clone(), viewmat, SIZE, SIZE, "ortho")
    pixels = tilted.project(points)[0]
    rgba = torch.ones(4, SIZE, SIZE)
    rgba[:3] = 0
    column, row = pixels[2].long().tolist()
    rgba[0, row - 1 : row + 2, column - 1 : column + 2] = 1
    maps = photo_maps(rgba, torch.full((SIZE, SIZE), 14), tilted, front, points, SIZE)
    x, y = front.project(points)[0][2]
    brightest = maps[0].mul(maps[3]).flatten().argmax()
    assert abs(float(brightest % SIZE) + 0.5 - float(x)) < 2
    assert abs(float(brightest // SIZE) + 0.5 - float(y)) < 2
    assert float(maps[4].mean()) == pytest.approx(float(maps[3].mean()))  # label 14 is hair


def test_similarity_finds_a_known_one():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(9, 2, generator=generator)
    c, s = math.cos(0.7), math.sin(0.7)
    turn = torch.tensor([[c, -s], [s, c]])
    found = similarity(a, 1.7 * a @ turn.T + torch.tensor([3.0, -2.0]))
    assert torch.allclose(found.R, turn, atol=1e-5) and float(found.scale) == pytest.approx(1.7, rel=1e-5)
    assert torch.allclose(found.t, torch.tensor([3.0, -2.0]), atol=1e-4)


def test_where_the_photo_is_trusted_its_pixels_stay():
    """Unless the network says over a breadth that something else is seen there."""
    before = view(0)
    full = View(before.camera, before.rgb, before.normal, before.mask, before.mask, before.depth)
    inner = before.mask[0] * (torch.nn.functional.avg_pool2d(before.mask[None], 7, 1, 3)[0, 0] > 0.999)
    residual = torch.zeros(7, 32, 32)
    residual[:3] = 0.14
    after = apply_residual(full, residual)
    assert torch.allclose(after.rgb[:, inner > 0], before.rgb[:, inner > 0], atol=1e-6)
    residual[:3] = 0
    residual[:3, :, 14:16] = -0.45  # a rim of glasses, drawn elsewhere
    after = apply_residual(full, residual)
    assert torch.allclose(after.rgb[:, inner > 0], before.rgb[:, inner > 0], atol=1e-6)
    residual[:3, :, 8:22] = -0.8  # hair before the cheek
    after = apply_residual(full, residual)
    assert float(after.rgb[:, 24:36, 28:32].mean()) < 0.1 < 0.4 < float(before.rgb[:, 24:36, 28:32].mean())


def test_an_outline_that_shrinks_leaves_no_line():
    before = view(0)
    base = base_of(lift_maps([before], 32))[0]
    residual = torch.zeros(7, 32, 32)
    residual[6, :, 18:] = -base[6, :, 18:]  # the right of the disc is not there
    residual[:3, :, 18:] = 1 - base[:3, :, 18:]
    after = apply_residual(before, residual)
    assert float(after.mask[0, :, 40:].max()) == 0 and bool((after.rgb[:, :, 40:] == 1).all())
    assert torch.equal(after.mask[0, :, :32], before.mask[0, :, :32])


def test_hue_is_smoothed_where_the_network_paints_and_light_and_dark_stay():
    before = view(0)
    grey = View(before.camera, 1 - 0.5 * before.mask.expand(3, -1, -1), *[
        getattr(before, n) for n in ("normal", "mask", "trust", "depth")
    ])  # fmt: skip
    noise = 0.4 * torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(4))
    residual = torch.zeros(7, 32, 32)
    residual[:3, :, :16] = noise[:, :, :16] * base_of(lift_maps([grey], 32))[0, 6, :, :16]
    low = base_of(lift_maps([grey], 32))[0]
    smooth = without_confetti(low[[0, 1, 2, 6]], residual)
    assert torch.allclose(smooth[:3].mean(0), residual[:3].mean(0), atol=1e-6)
    assert not smooth[:, :, 16:].any() and torch.equal(smooth[3:], residual[3:])
    hues = [
        float((r[:3, 8:22, 8:14] - r[:3, 8:22, 8:14].mean(0)).square().mean()) for r in (residual, smooth)
    ]
    assert hues[1] < 0.3 * hues[0]


def test_flecks_beside_the_head_go_and_colour_comes_without_white():
    before = view(0)
    residual = torch.zeros(7, 32, 32)
    residual[6, 2:4, 2:4] = 1.0  # a fleck in the corner
    residual[6, 8:22, 25:29] = 1.0  # hair beside the disc, and its colour
    residual[:3, 8:22, 25:29] = -0.8
    after = apply_residual(before, residual)
    assert float(after.mask[0, :10, :10].max()) == 0 and bool((after.rgb[:, :10, :10] == 1).all())
    assert float(after.mask[0, 30, 54]) == 1 and float(after.rgb[0, 30, 54]) < 0.35
    assert bool((after.normal[:, :10, :10] == 1).all())
    unit = after.normal[:, after.mask[0] > 0.5].norm(dim=0)
    assert float(unit.max()) < 1 + 1e-5


def test_main_part_of_nothing_is_everything():
    assert bool((main_part(torch.zeros(1, 8, 8)) == 1).all())


def test_what_is_kept_of_a_residual():
    base = base_of(lift_maps(six(), 32))
    residual = 0.2 * torch.randn(base.shape, generator=torch.Generator().manual_seed(3))
    residual[:, 6] = -1.0  # the network sees no head at all, and some hair beside the disc
    residual[:, 6, 12:20, 27:30] = 1.0
    kept = settle(base, residual, chin=24.0)
    assert not kept[0].any()  # the front is the photo
    alpha = (base + kept)[1:, 6]
    sides = [0, 1, 3, 4]
    beside = torch.ones(32, 32, dtype=torch.bool)
    beside[12:20, 27:30] = False
    assert float(alpha[sides][:, beside].max()) < 1e-6  # the sides are the network's
    assert bool((alpha[sides, 12:20, 27:30] > 0.99).all())
    assert torch.allclose(alpha[2, :22], base[3, 6, :22], atol=1e-6)  # the back keeps its outline,
    assert float(alpha[2, 26:].max()) < 1e-6  # but below the chin
    inside = base[3, 6] > 0.5
    assert not kept[3, 3:6, :22][:, inside[:22]].any()  # and its normals
    predicted = torch.nn.functional.normalize((base + residual)[1, 3:6, 12:20, 28], dim=0)
    assert torch.allclose((base + kept)[1, 3:6, 12:20, 28], predicted, atol=1e-5)


def test_no_view_reaches_higher_than_the_front():
    """Level cameras: a row that is empty in one is empty in all."""
    base = base_of(lift_maps(six(), 32))
    residual = torch.zeros_like(base)
    residual[1:, 6, 1:6, 12:20] = 1.0  # hair above the crown, everywhere but in front
    alpha = (base + settle(base, residual, chin=24.0))[:, 6]
    top = base[0, 6].amax(1)
    assert float(top[:5].max()) < 0.5 < float((base + residual)[1, 6, 2].max())
    assert bool((alpha.amax(2) <= torch.maximum(top, base[:, 6].amax(2)) + 1e-6).all())


def test_a_crown_that_the_photo_cuts_is_as_high_in_front_as_at_the_sides():
    base = base_of(lift_maps(six(), 32))
    residual = torch.zeros_like(base)
    residual[[1, 2, 4, 5], 6, 2:8, 12:20] = 1.0
    kept = settle(base, residual, chin=24.0, cut=True)
    alpha = (base + kept)[:, 6]
    reach = [int((view.amax(1) > 0.5).to(torch.uint8).argmax()) for view in alpha]
    assert int((base[0, 6].amax(1) > 0.5).to(torch.uint8).argmax()) > 3 and all(
        1 <= row <= 3 for row in reach
    )
    behind = torch.maximum(base[3, 6], alpha[0].flip(1))  # as in front
    assert torch.allclose(alpha[3, :20], behind[:20], atol=1e-5)
    inside = base[0, 6] > 0.99
    assert not kept[0][:, inside].any()  # what the photo shows stays


def test_a_mask_is_raised_by_stretching_what_lies_above_a_row():
    mask = torch.zeros(40, 20)
    mask[12:, 5:15] = 1
    higher = raised(mask, top=6.0, fixed=20.0)
    assert float(higher[:5].max()) < 0.5 < float(higher[7, 5:15].min())
    assert torch.equal(higher[20:], mask[20:]) and not higher[:, :4].any()
    assert torch.equal(raised(mask, top=15.0, fixed=20.0), mask)  # never lowered


@pytest.mark.parametrize(("first", "cuts"), [(6, True), (3, False)])
def test_the_photos_upper_edge_cuts_the_crown_or_does_not(first, cuts):
    head = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    head[5:50, 20:44] = True
    area = torch.zeros_like(head)
    area[first:] = True
    assert cuts_crown(head, area) == cuts


def test_a_soft_change_beside_a_sharp_outline_leaves_no_gap():
    """What grows is dark and opaque up to its own edge, along the old outline, too."""
    before = view(0)
    low = base_of(lift_maps([before], 32))[0]
    dark = View(before.camera, 1 - 0.8 * before.mask.expand(3, -1, -1), *[
        getattr(before, n) for n in ("normal", "mask", "trust", "depth")
    ])  # fmt: skip
    base = base_of(lift_maps([dark], 32))[0]
    target = low[6].clone()
    target[4:20, 12:20] = 1.0
    residual = torch.zeros_like(base)
    residual[6] = target - base[6]
    residual[:3] = -0.8 * residual[6]
    after = apply_residual(dark, residual)
    column = slice(27, 37)
    assert float(after.mask[0, 12:40, column].min()) > 0.97
    assert float((after.rgb[:, 12:40, column] - 0.2).abs().max()) < 0.06


def test_an_outline_that_grows_takes_the_colour_beside_it():
    maps = torch.zeros(7, 32, 32)
    maps[:3] = 1
    maps[:3, :, :16], maps[5, :, :16], maps[6, :, :16] = 0.25, 1.0, 1.0
    alpha = torch.zeros(32, 32)
    alpha[:, :24] = 1
    out = with_outline(maps, alpha)
    assert torch.allclose(out[:3, :, 16:24], torch.tensor(0.25), atol=0.02)
    assert torch.allclose(out[5, :, 16:24], torch.tensor(1.0), atol=0.02)
    assert bool((out[:3, :, 24:] == 1).all()) and torch.allclose(out[:, :, :16], maps[:, :, :16], atol=1e-6)


def test_a_file_holds_the_network_to_a_part_in_two_hundred():
    net = woken(ViewNet(TINY).eval())
    data = checkpoint.to_bytes(net, size=32, trained_on=["studio/*"])
    again, about = checkpoint.from_bytes(data, "here")
    assert about["size"] == 32 and about["trained_on"] == ["studio/*"] and again.config == TINY
    assert len(data) < 1.5 * sum(p.numel() for p in net.parameters())
    for (name, a), b in zip(net.state_dict().items(), again.state_dict().values(), strict=True):
        reach = a.flatten(1).abs().amax(1) if a.ndim > 1 else a.abs().amax().clamp_min(1e-3)
        bound = (
            (reach / 127 * 0.51 + 1e-3 * reach).view(-1, *[1] * (a.ndim - 1)) if a.ndim > 1 else 1e-3 * reach
        )
        assert bool(((a - b).abs() <= bound).all()), name
    third, _ = checkpoint.from_bytes(checkpoint.to_bytes(again), "again")  # a second pass loses nothing
    for a, b in zip(again.state_dict().values(), third.state_dict().values(), strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-9)


def test_a_hat_is_told_from_a_band():
    labels = torch.zeros(64, 64, dtype=torch.long)
    labels[:20] = 14
    labels[18:20] = 15
    assert not wears_a_hat(labels)
    labels[:12] = 15
    assert wears_a_hat(labels) and not wears_a_hat(torch.zeros_like(labels))


@pytest.mark.parametrize("data", [b"", b"not a file", checkpoint.to_bytes(ViewNet(TINY))[:-50]])
def test_what_is_no_network_is_refused_in_words(data):
    with pytest.raises(OmegaError, match="no view network"):
        checkpoint.from_bytes(data, "some/file")
