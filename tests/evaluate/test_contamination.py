"""Weights that say whom they were trained on, and people who are among them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from omega_cli.avatar import layout
from omega_cli.avatar.layout import Avatar
from omega_cli.errors import OmegaError
from omega_cli.evaluate import contamination


def weight_file(path: Path, metadata: dict[str, str] | None) -> Path:
    save_file({"w": torch.zeros(1)}, path, metadata)
    return path


def test_patterns_name_sets_and_people(tmp_path: Path) -> None:
    text = json.dumps(["nersemble/0*", "ava256/20220614--1135--DNM410"])
    own = weight_file(tmp_path / "decoder.safetensors", {"trained_on": text})
    silent = weight_file(tmp_path / "encoder.safetensors", None)
    foreign = tmp_path / "landmarks.onnx"
    foreign.write_bytes(b"not ours")
    files = [own, silent, foreign]
    assert contamination.seen_by("nersemble", "017", files) == ["decoder.safetensors"]
    assert contamination.seen_by("ava256", "20220614--1135--DNM410", files) == ["decoder.safetensors"]
    assert contamination.seen_by("nersemble", "124", files) == []
    assert contamination.seen_by("studio", "017", files) == []


def test_who_was_held_out_was_not_trained_on(tmp_path: Path) -> None:
    """By name alone, as a training run lists them, or by set."""
    own = weight_file(
        tmp_path / "net.safetensors",
        {"trained_on": '["studio/*", "valid/*"]', "held_out": '["Asian_F_3", "studio/9???????"]'},
    )
    for dataset, identity, trained in (
        ("valid", "Asian_F_3", False), ("valid", "Asian_F_1", True),
        ("studio", "99000001", False), ("studio", "0010", True), ("nersemble", "017", False),
    ):  # fmt: skip
        assert bool(contamination.seen_by(dataset, identity, [own])) == trained, identity


@pytest.mark.parametrize("text", ["nersemble/*", '{"a": 1}', "[1]"])
def test_metadata_that_is_no_list_is_refused(tmp_path: Path, text: str) -> None:
    path = weight_file(tmp_path / "w.safetensors", {"trained_on": text})
    with pytest.raises(OmegaError, match="trained_on is no JSON list"):
        contamination.claims(path)


def test_the_avatars_own_records_say_which_weights_it_used(
    toy_avatar: Avatar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record names the weights; their file is found as every stage finds it."""
    assert contamination.weights_of(toy_avatar) == []  # dropped in by hand: no records
    monkeypatch.setenv("OMEGA_WEIGHTS", str(tmp_path / "mine"))
    (tmp_path / "mine").mkdir()
    own = tmp_path / "mine" / "open_head.npz"
    own.write_bytes(b"")
    document = {
        "schema": layout.STAGE_SCHEMA, "stage": "mv-diffuse", "key": "", "params": {}, "seed": 0,
        "inputs": {}, "outputs": {}, "weights": {"open_head": "sha256:0", "forgotten": "sha256:1"},
    }  # fmt: skip
    (toy_avatar.views / layout.STAGE).write_text(json.dumps(document))
    assert contamination.weights_of(toy_avatar) == [own]
