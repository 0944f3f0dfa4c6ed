"""The encoder: each view by itself, nothing outside the mask, context from afar."""

from __future__ import annotations

import torch

from omega_cli.splat_uv.encoder import Encoder, EncoderConfig


def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(EncoderConfig(channels=(8, 16, 16), outputs=6)).eval()


@torch.no_grad()
def test_views_are_encoded_one_by_one_and_nothing_lies_outside_the_mask() -> None:
    net = encoder()
    rgb, mask = torch.rand(3, 3, 48, 64), torch.ones(3, 1, 48, 64)
    mask[..., :20] = 0
    out = net(rgb, mask)
    assert out.shape == (3, 6, 48, 64)
    assert not out[..., :20].any() and bool(out[..., 20:].any())
    assert torch.allclose(out[1:2], net(rgb[1:2], mask[1:2]), atol=1e-5)


def test_a_pixel_hears_of_its_wide_surroundings() -> None:
    rgb = torch.rand(1, 3, 64, 64, requires_grad=True)
    encoder()(rgb, torch.ones(1, 1, 64, 64))[0, 0, 32, 32].backward()
    assert rgb.grad is not None
    heard = rgb.grad[0].abs().amax(0) > 0
    assert bool(heard[32, 12:50].all())
