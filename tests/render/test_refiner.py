"""The refiner: the raw image at first, of any size, the same each time, and nothing where nobody is."""

from __future__ import annotations

import pytest
import torch

from omega_cli.decode.residual import COLOURS
from omega_cli.render.refiner import Refiner


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
