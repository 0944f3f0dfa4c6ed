"""The face parser's network: its file, its folded form, and what a trained one says of a face."""

from __future__ import annotations

import pytest
import torch
from conftest import weight_file

from omega_cli.errors import OmegaError
from omega_cli.track import parsing as labels
from omega_cli.track import parsing_checkpoint
from omega_cli.track.parsing_network import FaceParser, ParserConfig, ParserNet

SMALL = ParserConfig((8, 16, 16, 32, 32), (16, 16, 16, 32), (1, 1, 1, 1))


def random_net(config: ParserConfig = SMALL) -> ParserNet:
    """Weights and norms as after some training."""
    torch.manual_seed(0)
    net = ParserNet(config)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight, 1, 0.1)
            module.running_mean = 0.1 * torch.randn(module.num_features)
            module.running_var = 1 + 0.3 * torch.rand(module.num_features)
    return net.eval()


def test_the_full_network_fits_its_budget():
    net = ParserNet()
    assert sum(p.numel() for p in net.parameters()) < 6.5e6
    assert len(parsing_checkpoint.to_bytes(net)) < 8 * 2**20
    with torch.no_grad():
        assert net.eval()(torch.rand(1, 3, 64, 96)).shape == (1, labels.LABELS, 32, 48)


def test_a_file_holds_the_network_and_says_what_it_is():
    net = random_net()
    data = parsing_checkpoint.to_bytes(net, trained_on=["studio/*"])
    again, about = parsing_checkpoint.from_bytes(data, "here")
    assert about["trained_on"] == ["studio/*"] and again.config == SMALL
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        difference = (again(x) - net(x)).abs().max() / net(x).abs().max()
    assert float(difference) < 0.05  # 8 bits
    third, _ = parsing_checkpoint.from_bytes(parsing_checkpoint.to_bytes(again), "again")
    for a, b in zip(third.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    with pytest.raises(OmegaError, match="no face parser"):
        parsing_checkpoint.from_bytes(data[:-8], "broken")


def test_folding_changes_nothing_and_any_size_comes_back():
    net = random_net()
    x = torch.rand(3, 256, 256)
    with torch.no_grad():
        before = net(x[None])
    parser = FaceParser(net)
    with torch.no_grad():
        assert torch.allclose(parser.net(x[None]), before, atol=1e-4)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in parser.net.modules())
    out = parser(torch.rand(3, 512, 384))
    assert out.shape == (labels.LABELS, 512, 384)
    assert torch.allclose(out.sum(0), torch.ones(512, 384), atol=1e-4)


def test_the_trained_parser_finds_the_parts_of_a_face(astronaut):
    """Where the landmarks say eyes, lips, nose and skin are, the parser sees them too."""
    from omega_cli.track import stage
    from omega_cli.track.config import TrackConfig

    for name in stage.photo_networks(TrackConfig(parser="own")):
        weight_file(name)
    tracked = stage.track_image(astronaut, config=TrackConfig(parser="own"))
    at = tracked.points478.astype(int)

    def seen(*points: int) -> list[int]:
        return [int(tracked.label_map[at[i, 1], at[i, 0]]) for i in points]

    assert seen(1, 4) == [labels.NOSE] * 2 and set(seen(50, 280, 199)) == {labels.SKIN}
    assert set(seen(468, 473)) == {labels.EYES}
    assert (tracked.label_map == labels.HAIR).float().mean() > 0.05
