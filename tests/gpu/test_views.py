"""CUDA against the CPU: mv-diffuse makes the same six views. Runs where there is a GPU."""

from __future__ import annotations

import pytest
import torch

from omega_cli.avatar import codecs, layout
from omega_cli.console import NullReport
from omega_cli.mv_diffuse import stage
from omega_cli.mv_diffuse.config import MvDiffuseConfig
from tests import toy

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize(("source", "limit"), [("lift", 2e-3), ("omega", 6e-3)])
def test_the_views_are_those_of_the_cpu(source: str, limit: float, tmp_path) -> None:
    made = {}
    for device in ("cpu", "cuda"):
        avatar = toy.make_toy_avatar(tmp_path / device)
        config = MvDiffuseConfig(source=source, size=192, texture_size=256)  # type: ignore[arg-type]
        stage.run(avatar, config, device=device, report=NullReport(), force=True)
        made[device] = [
            codecs.load_image(avatar.views / name(az), 3)
            for az in layout.AZIMUTHS
            for name in (layout.view_rgb, layout.view_normal)
        ]
    for cpu, gpu in zip(made["cpu"], made["cuda"], strict=True):
        # one pixel on an edge may belong to the other triangle; bfloat16 rounds the network's answer
        assert float((cpu - gpu).abs().mean()) < limit
    assert float(made["cpu"][2].std()) > 0.1  # a picture, not a blank
