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


@torch.no_grad()
def test_a_pixel_hears_of_what_lies_twenty_pixels_away() -> None:
    net, generator = encoder(), torch.Generator().manual_seed(1)
    rgb, mask = torch.rand(1, 3, 96, 96, generator=generator), torch.ones(1, 1, 96, 96)
    for block in net.modules():
        if isinstance(block, torch.nn.GroupNorm):  # a norm hears everything: it shall not be what is tested
            block.forward = lambda x: x  # type: ignore[method-assign]
    before = net(rgb, mask)[0, :, 48, 48]
    for distance, heard in ((20, True), (47, False)):
        other = rgb.clone()
        other[..., 48 - 2 : 48 + 2, 48 - distance : 48 - distance + 4] += 1
        assert torch.equal(net(other, mask)[0, :, 48, 48], before) != heard
