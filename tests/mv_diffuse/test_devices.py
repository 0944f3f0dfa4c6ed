"""The six views on a GPU in name only: no mixing of devices, and the CPU's pixels."""

from __future__ import annotations

import torch

from omega_cli.avatar import codecs, layout
from omega_cli.console import NullReport
from omega_cli.kernels import _backend
from omega_cli.mv_diffuse import stage
from omega_cli.mv_diffuse.config import MvDiffuseConfig
from tests import toy
from tests.named_gpu import named_gpu


def test_lift_and_network_stay_on_the_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(_backend, "choose", lambda *_, **__: "torch")
    config = MvDiffuseConfig(source="omega", size=64, texture_size=64)
    made = []
    for device in ("cpu", "cuda:0"):
        avatar = toy.make_toy_avatar(tmp_path / device.replace(":", ""))
        with named_gpu():
            stage.run(avatar, config, device=device, report=NullReport(), force=True)
        pictures = [layout.view_rgb(azimuth) for azimuth in layout.AZIMUTHS]
        made.append(torch.stack([codecs.load_image(avatar.views / name, 3) for name in pictures]))
    assert (made[0] - made[1]).abs().mean() < 1e-3 and made[0].std() > 0.1
