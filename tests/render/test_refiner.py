"""The refiner: the raw image at first, of any size, the same each time, and nothing where nobody is."""

from __future__ import annotations

import pytest
import torch

from omega_cli.decode.residual import COLOURS
from omega_cli.render.refiner import BAND, Refiner, refine


def woken() -> Refiner:
    torch.manual_seed(0)
    net = Refiner().eval()
    torch.nn.init.normal_(net.last.weight, std=0.1)
    return net


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (37, 50)])
def test_sizes_and_silence(size: tuple[int, int]) -> None:
    colours, alpha = torch.rand(2, COLOURS, *size), torch.rand(2, 1, *size)
    alpha[..., :10, :] = 0
    assert not Refiner()(colours, alpha).any()
    out = woken()(colours, alpha)
    assert out.shape == (2, 3, *size)
    assert not out[..., :10, :].any() and bool(out[..., 10:, :].any())


@torch.no_grad()
def test_it_is_the_same_every_time_and_for_each_image_of_a_batch() -> None:
    net = woken()
    colours, alpha = torch.rand(3, COLOURS, 48, 48), torch.rand(3, 1, 48, 48)
    both = net(colours, alpha)
    assert torch.equal(both, net(colours, alpha))
    assert torch.allclose(both[1:2], net(colours[1:2], alpha[1:2]), atol=1e-5)


@torch.no_grad()
def test_a_frame_is_the_raw_one_over_its_background_and_what_is_added_within_the_colours() -> None:
    colours, alpha, behind = torch.rand(COLOURS, 48, 64), torch.rand(48, 64), torch.tensor([0.2, 0.9, 0.4])
    raw = colours[:3] * 0.1 + (1 - alpha) * behind[:, None, None]
    dim = torch.cat([colours[:3] * 0.1, colours[3:]])
    assert torch.equal(refine(Refiner(), dim, alpha, behind), raw.clamp(0, 1))
    assert torch.equal(refine(Refiner(), colours, alpha), colours[:3])
    net = woken()
    change = net(dim[None], alpha[None, None])[0]
    out = refine(net, dim, alpha, behind)
    assert torch.equal(out, (raw + change).clamp(0, 1)) and float((raw + change).min()) < 0


@torch.no_grad()
def test_bands_of_rows_are_the_whole_picture() -> None:
    net, colours = woken(), torch.rand(1, COLOURS, 3 * BAND + 8, 40)
    torch.testing.assert_close(net._patches(colours), net.enter(colours), atol=1e-6, rtol=1e-6)
