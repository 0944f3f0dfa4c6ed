"""The avatar networks that come with omega: one family, whole, and not trained on what is scored."""

from __future__ import annotations

import hashlib

import pytest
import torch

from omega_cli import weights
from omega_cli.decode.checkpoint import DECODER
from omega_cli.head.assets import load_head
from omega_cli.model import OmegaModel
from omega_cli.render.checkpoint import REFINER
from omega_cli.splat_uv.checkpoint import ENCODER
from omega_cli.splat_uv.config import SplatUVConfig
from omega_cli.train.views.scoring import HELD_OUT

KINDS = (ENCODER, DECODER, REFINER)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {kind.name: weights.resolve(kind.name).read_bytes() for kind in KINDS}


def test_each_names_the_one_that_it_was_trained_with(files: dict[str, bytes]) -> None:
    about = {kind.name: kind.from_bytes(files[kind.name], kind.name)[1] for kind in KINDS}
    digest = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    assert about[DECODER.name]["encoder"] == digest[ENCODER.name]
    assert about[DECODER.name]["head"] == load_head().sha256
    assert about[REFINER.name]["decoder"] == digest[DECODER.name]
    for facts in about.values():
        assert {f"valid/{name}" for name in HELD_OUT} < set(facts["held_out"])
        assert facts["step"] > 0


@torch.no_grad()
def test_they_are_the_networks_of_the_default_sizes_and_say_something(files: dict[str, bytes]) -> None:
    model = OmegaModel(load_head(), SplatUVConfig())
    model.load(files)
    for last in (model.decoder.uv.last, model.decoder.vertex.last, model.refiner.last):
        assert 1e-4 < float(last.weight.abs().max()) < 10  # untrained ones are zero
