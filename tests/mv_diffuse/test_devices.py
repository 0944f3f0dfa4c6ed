"""The six views on a GPU in name only: no mixing of devices, and the CPU's pixels."""

from __future__ import annotations

import contextlib

import torch

from omega_cli.avatar import codecs, layout
from omega_cli.console import NullReport
from omega_cli.geometry import sparse
from omega_cli.kernels import _backend
from omega_cli.mv_diffuse import fill, inflate, stage
from omega_cli.mv_diffuse.config import MvDiffuseConfig
from tests import toy
from tests.named_gpu import named_gpu


def test_lift_and_network_stay_on_the_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(_backend, "choose", lambda *_, **__: "torch")
    for room in (fill, inflate):  # the dense way has its own test, and takes a CPU seconds
        monkeypatch.setattr(room, "solve", lambda system, right, _: sparse.solve(system, right))
    config = MvDiffuseConfig(source="omega", size=64, texture_size=64)
    made = []
    for device in ("cpu", "cuda:0"):
        avatar = toy.make_toy_avatar(tmp_path / device.replace(":", ""))
        with named_gpu() if device != "cpu" else contextlib.nullcontext():
            stage.run(avatar, config, device=device, report=NullReport(), force=True)
        pictures = [layout.view_rgb(azimuth) for azimuth in layout.AZIMUTHS]
        made.append(torch.stack([codecs.load_image(avatar.views / name, 3) for name in pictures]))
    assert (made[0] - made[1]).abs().mean() < 1e-3 and made[0].std() > 0.1
