"""OmegaModel: the stages' own maths, the analytic avatar until it learns, gradients to all that learns."""

from __future__ import annotations

import functools

import torch

from omega_cli.geometry.camera import perspective
from omega_cli.head.assets import load_head
from omega_cli.head.params import HeadParams
from omega_cli.model import Avatar, OmegaConfig, OmegaModel
from omega_cli.mv_diffuse.views import canonical_cameras
from omega_cli.render.refiner import RefinerConfig
from omega_cli.splat_uv.config import SplatUVConfig
from omega_cli.splat_uv.encoder import EncoderConfig
from omega_cli.splat_uv.stage import Views

SIZE = 64
head = functools.cache(load_head)
CONFIG = OmegaConfig(EncoderConfig((8, 8, 16), 4), (16, 24, 32), RefinerConfig((16, 16)))


def model() -> OmegaModel:
    torch.manual_seed(0)
    return OmegaModel(head(), SplatUVConfig(uv_size=64, levels=3), CONFIG)


def views() -> Views:
    generator = torch.Generator().manual_seed(1)
    cameras = canonical_cameras(SIZE, 0.21)
    rgb = [torch.rand(3, SIZE, SIZE, generator=generator) for _ in cameras]
    return Views(cameras, rgb, [torch.ones(1, SIZE, SIZE) for _ in cameras], torch.ones(len(cameras)))


def made(net: OmegaModel) -> tuple[Avatar, HeadParams]:
    params, offsets = head().zeros(), torch.zeros_like(head().v_template)
    uv_map, identity = net.canonical_map(params, offsets, views(), None)
    base = net.analytic(params, offsets, uv_map)
    return net.avatar(params, offsets, uv_map, identity, base), params


def test_untrained_it_draws_the_raw_image_and_the_analytic_one() -> None:
    with torch.no_grad():
        avatar, params = made(model())
        camera = perspective(10.0, 64, 0.2, centre=torch.tensor([0.0, 0.02, 0.0]))
        drawn = model().draw(avatar, params, camera, torch.ones(3))
    assert torch.equal(drawn.raw, drawn.refined)
    assert 0.2 < float(drawn.alpha.mean()) < 0.9
    assert not avatar.bound.uv.colors[:, 3:].any()


def test_a_picture_teaches_every_network() -> None:
    net = model()
    for layer in (net.decoder.uv.last, net.decoder.vertex.last, net.refiner.last):
        torch.nn.init.normal_(layer.weight, std=0.02)
    avatar, params = made(net)
    camera = perspective(10.0, 64, 0.2, centre=torch.tensor([0.0, 0.02, 0.0]))
    drawn = net.draw(avatar, params, camera, torch.ones(3))
    (drawn.refined - 0.5).square().mean().backward()
    for part in (net.encoder.last, net.decoder.uv.enter, net.decoder.vertex.enter, net.refiner.enter):
        assert part.weight.grad is not None and float(part.weight.grad.abs().max()) > 0
    code = net.decoder.vertex.code.grad
    assert code is not None and float(code.abs().max()) > 0
