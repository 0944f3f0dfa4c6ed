"""DreamSim is the user's: what is missing is named, and the pictures reach the network as it wants them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from omega_cli.errors import OmegaError
from omega_cli.metrics.dreamsim import FILES, DreamSim, load_dreamsim


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMEGA_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("OMEGA_CACHE", str(tmp_path / "none"))
    return tmp_path / "dreamsim"


def test_missing_weights_are_named(place: Path) -> None:
    with pytest.raises(
        OmegaError, match=r"lacks dino_vitb16_pretrain\.pth, dino_vitb16_single_lora"
    ) as caught:
        load_dreamsim("dino_vitb16")
    assert "dreamsim_dino_vitb16_checkpoint.zip" in caught.value.hint
    place.mkdir()
    (place / FILES["ensemble"][0]).write_bytes(b"")
    with pytest.raises(OmegaError) as caught:
        load_dreamsim()
    assert FILES["ensemble"][0] not in caught.value.message and str(place) in caught.value.message


@pytest.mark.skipif(importlib.util.find_spec("dreamsim") is not None, reason="dreamsim is installed here")
def test_a_missing_package_is_named(place: Path) -> None:
    for file in FILES["ensemble"]:
        (place / file).mkdir(parents=True)
    with pytest.raises(OmegaError, match="needs a package") as caught:
        load_dreamsim()
    assert "pip install dreamsim" in caught.value.hint


def test_kinds_are_checked() -> None:
    with pytest.raises(ValueError, match="kind must be one of ensemble"):
        load_dreamsim("vgg")  # pyright: ignore


def preprocess(picture: Image.Image) -> Tensor:
    """The package's: PIL bicubic to 224², [1, 3, 224, 224] in [0, 1]."""
    resized = picture.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1)[None].float() / 255


class Distance(torch.nn.Module):
    """The package's interface: a pair of [1, 3, 224, 224] -> [1]."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        assert a.shape == b.shape == (1, 3, 224, 224)
        return (a - b).abs().mean((1, 2, 3))


def test_pictures_reach_the_network() -> None:
    metric = DreamSim(Distance(), preprocess, "ensemble", "cpu")
    a = torch.full((3, 3, 40, 40), 0.2)
    b = a + torch.tensor([0.0, 0.2, 0.4]).reshape(3, 1, 1, 1)
    assert metric(a, b).tolist() == pytest.approx([0, 0.2, 0.4], abs=1e-6)
    mask = torch.zeros(3, 1, 40, 40)
    assert metric(a, b, mask).tolist() == [0, 0, 0]
    assert metric(a[:0], b[:0]).shape == (0,)
    assert metric.name == "DreamSim"
    assert DreamSim(Distance(), preprocess, "dino_vitb16", "cpu").name == "DreamSim-dino_vitb16"
    with pytest.raises(ValueError, match=r"b must be in \[0, 1\]"):
        metric(a, b + 1)
