"""Metric networks: the user's own where their files are, under their own names; otherwise absent and said."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import weight_file
from torch import Tensor

from omega_cli.console import NullReport
from omega_cli.evaluate import networks
from omega_cli.evaluate.protocol import Protocol, Sample
from omega_cli.metrics.dreamsim import FILES
from tests.metrics.test_csim import toy_arcface


def protocol(**choices: Any) -> Protocol:
    choices = {"lpips": (), "csim": ("arcface", "sface"), "dreamsim": ("ensemble",)} | choices
    return Protocol("test", "valid", (Sample("a", "s", frames=(0,)),), "0", **choices)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMEGA_WEIGHTS", str(tmp_path))
    return tmp_path


def test_without_the_users_files_sface_is_alone_and_the_rest_is_said(mine: Path) -> None:
    weight_file("sface"), weight_file("yunet")
    said = networks.absent(protocol())
    assert "arcface.onnx" in said["arcface"] and "dreamsim" in said["ensemble"]
    assert list(networks.load(protocol(), (), "cpu", NullReport()).whole) == ["csim_sface"]
    assert networks.absent(protocol(csim=("sface",), dreamsim=())) == {}


def test_arcface_is_used_under_its_own_name(mine: Path) -> None:
    weight_file("sface"), weight_file("yunet")
    (mine / "arcface.onnx").write_bytes(toy_arcface())
    wanted = protocol(dreamsim=())
    assert networks.absent(wanted) == {}
    found = networks.load(wanted, (), "cpu", NullReport()).whole
    assert list(found) == ["csim_arcface", "csim_sface"]
    empty = torch.zeros(1, 3, 64, 64)
    assert bool(found["csim_arcface"](empty, empty).isnan())  # no face
    zero = networks.load(protocol(dreamsim=(), no_face="zero"), (), "cpu", NullReport()).whole
    assert bool(zero["csim_arcface"](empty, empty).isnan())  # the truth shows none: nothing was lost


def test_dreamsim_is_used_where_package_and_weights_are(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of that name that answers the mean difference of what it is given."""

    def build(pretrained: bool, device: str, cache_dir: str, dreamsim_type: str) -> tuple[Any, Any]:
        assert pretrained and Path(cache_dir) == mine / "dreamsim" and dreamsim_type == "ensemble"

        def preprocess(picture: Any) -> Tensor:
            return torch.tensor(picture.getpixel((0, 0))).float() / 255

        return lambda a, b: (a - b).abs().mean()[None], preprocess

    package = types.ModuleType("dreamsim")
    package.dreamsim = build  # type: ignore[attr-defined]
    package.__spec__ = types.SimpleNamespace(name="dreamsim")  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "dreamsim", package)
    wanted = protocol(csim=())
    assert "lacks" in networks.absent(wanted)["ensemble"]  # the package alone is not enough
    (mine / "dreamsim").mkdir()
    for name in FILES["ensemble"]:
        (mine / "dreamsim" / name).touch()
    assert networks.absent(wanted) == {}
    found = networks.load(wanted, (), "cpu", NullReport()).whole
    assert list(found) == ["dreamsim"]
    black, grey = torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.5)
    assert float(found["dreamsim"](black, grey)) == pytest.approx(0.5, abs=0.01)


def test_a_distance_knows_its_mask(mine: Path) -> None:
    weight_file("lpips_alex")
    measure = networks.load(
        protocol(lpips=("alex",), csim=(), dreamsim=()), ("alex", "vgg"), "cpu", NullReport()
    )
    assert list(measure.masked) == ["lpips_alex"]
    a, b = torch.full((1, 3, 64, 64), 0.5), torch.full((1, 3, 64, 64), 0.5)
    b[..., 40:, :] = torch.rand(1, 3, 24, 64, generator=torch.Generator().manual_seed(0))
    top = torch.zeros(1, 1, 64, 64)
    top[:, :, :40] = 1
    distance = measure.masked["lpips_alex"]
    assert float(distance(a, b, None)) > 0.2 and float(distance(a, b, top)) < 1e-6
