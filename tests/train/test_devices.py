"""Training on a GPU in name only: nothing of a step, a score or a sheet mixes devices."""

from __future__ import annotations

import math

import pytest
import torch

from omega_cli.gaussians.splat import gsplat_backend
from omega_cli.head.assets import load_head
from omega_cli.kernels import _backend
from omega_cli.model import OmegaModel
from omega_cli.train.avatar import score
from omega_cli.train.avatar.loop import LoopConfig, Trainer
from omega_cli.train.avatar.pool import AvatarPool
from tests.named_gpu import Named, named_gpu
from tests.train.test_avatar import SIZES, data, studio  # noqa: F401


def test_the_watch_sees_what_cuda_would_refuse():
    with named_gpu():
        there = torch.rand(4, 3).to("cuda")
        assert there.is_cuda and str((there @ there.T).device) == "cuda:0"
        with pytest.raises(RuntimeError, match="on the CPU"):
            there + torch.rand(4, 3)
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        assert not isinstance(there.cpu(), Named) and (there + torch.tensor(1.0)).is_cuda
        layer = torch.nn.Linear(3, 2).to("cuda")
        layer(there).sum().backward()
        assert layer.weight.is_cuda and layer.weight.grad is not None


def test_training_and_scoring_stay_on_the_gpu(data, monkeypatch):  # noqa: F811
    monkeypatch.setattr(_backend, "choose", lambda *_, **__: "torch")
    monkeypatch.setattr(gsplat_backend, "preferred", lambda _: "torch")
    torch.manual_seed(0)
    with named_gpu():
        model = OmegaModel(load_head(device="cuda:0"), SIZES.splat, SIZES.networks).to("cuda:0")
        pool = AvatarPool(data / "samples", 8, "cuda:0")
        trainer = Trainer(model, pool, None, None, LoopConfig(steps=1, batch=1, at_least=2))
        pool.refresh()
        terms = trainer.advance(0.5)
        assert all(t.is_cuda and math.isfinite(float(t)) for t in terms.values())
        row = score.score(model, pool.members[:1], None)
        assert math.isfinite(row["refined"]["psnr"]["all"])
        assert all(not p.is_cuda for p in score.rows(trainer.averaged(), model, pool.members[:1]))
        assert trainer.averaged().files()
