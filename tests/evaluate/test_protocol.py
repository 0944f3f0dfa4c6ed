"""Protocols: the frozen files, what they must hold, and that sampling is the same everywhere."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from omega_cli.errors import OmegaError
from omega_cli.evaluate.protocol import (
    AVA256_IDENTITIES,
    NERSEMBLE_SEQUENCES,
    Protocol,
    Sample,
    dumps,
    frames_at,
    load,
    loads,
    sampled_fractions,
    standard,
)

SMALL = Protocol("small", "valid", (Sample("A", "neutral", frames=(0, 4)),), "a", ("b", "c"))


@pytest.mark.parametrize("dataset", ["nersemble", "ava256", "valid", "studio"])
def test_files_are_the_standard_protocols(project: Path, dataset: str, update_golden: bool) -> None:
    path = project / "examples" / "protocols" / f"{dataset}.json"
    if update_golden:
        path.write_text(dumps(standard(dataset)))
    assert path.read_text() == dumps(standard(dataset))
    assert load(path) == standard(dataset)


def test_the_papers_numbers() -> None:
    faces = standard("nersemble")
    assert faces.identities == ("017", "070", "124", "175", "214", "218", "304", "306", "371", "490")
    assert len(faces.samples) == 90 and faces.frame_count == 4500 and not faces.frozen
    assert {s.sequence for s in faces.samples} == set(NERSEMBLE_SEQUENCES)
    assert (faces.source_camera, faces.target_cameras) == ("222200037", ())
    heads = standard("ava256")
    assert heads.identities == AVA256_IDENTITIES and heads.frame_count == 200
    assert "20220614--1135--DNM410" in heads.identities and heads.source_camera == "401168"
    own = standard("valid")
    assert len(own.identities) == 34 and len(own.target_cameras) == 23 and own.frozen
    studio = standard("studio")
    assert len(studio.identities) == 8 and len(studio.target_cameras) == 24 * 3 and studio.frozen
    assert {s.identity for s in studio.driven} == set(studio.identities) and studio.size == 512


def test_sampling_is_a_fixed_function() -> None:
    """Written out once: another machine, Python or torch must find the same numbers."""
    assert sampled_fractions(0, "017", "EXP-1-head", 3) == (0.003329, 0.095994, 0.731824)
    some = sampled_fractions(0, "017", "EXP-1-head", 50)
    assert list(some) == sorted(some) and some[0] >= 0 and some[-1] < 1
    assert some != sampled_fractions(1, "017", "EXP-1-head", 50)
    many = sampled_fractions(3, "x", "y", 4000)
    for k in range(10):  # even: each tenth holds its tenth, within 4 sigma
        assert abs(sum(k / 10 <= f < (k + 1) / 10 for f in many) - 400) < 76


def test_fractions_become_distinct_frames() -> None:
    assert frames_at((0.0, 0.1, 0.5, 0.999), range(100, 200), "x") == (100, 110, 150, 199)
    assert frames_at((0.5, 0.5, 0.51), range(10), "x") == (5, 6, 7)
    assert frames_at((0.95, 0.96, 0.97), range(10), "x") == (0, 1, 9)
    assert frames_at(sampled_fractions(0, "a", "b", 50), range(50), "x") == tuple(range(50))
    assert frames_at((0.3,), [3, 8, 20], "x") == (3,)
    with pytest.raises(OmegaError, match="017/HAIR has only 2 frames; the protocol wants 3"):
        frames_at((0.1, 0.2, 0.3), range(2), "017/HAIR")


def test_files_come_back_whole() -> None:
    odd = dataclasses.replace(
        SMALL, crop="head", crop_radius_m=0.25, lpips=("vgg",), dreamsim=(), ssim_grey=True, seed=4
    )
    assert loads(dumps(odd)) == odd
    assert len(dumps(standard("nersemble")).splitlines()) < 150  # one sample a line


def test_restricted() -> None:
    some = standard("nersemble").restricted(["070", "490"], frames=5)
    assert some.identities == ("070", "490") and some.frame_count == 2 * 9 * 5
    whole = next(s for s in standard("nersemble").samples if s.identity == "070")
    assert some.samples[0].fractions == whole.fractions[::10]
    with pytest.raises(OmegaError, match="no identity 071"):
        standard("nersemble").restricted(["071"])


def test_describe_names_every_choice() -> None:
    text = standard("nersemble").describe()
    for field in dataclasses.fields(Protocol):
        if field.name not in ("name", "dataset", "samples"):
            assert f"  {field.name} " in text, field.name
    assert text.startswith("protocol nersemble on nersemble\n")
    assert "all others" in text and "4500 in 90 recordings, as fractions" in text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"size": "512"}, "size must be of kind int"),
        ({"size": True}, "size must be of kind int"),
        ({"crop": "face"}, "crop must be one of head, whole"),
        ({"lpips": "alex"}, "lpips must be a list"),
        ({"lpips": [1]}, "each of lpips must be of kind str"),
        ({"target_cameras": ["b", "a"]}, "camera a cannot be source and target"),
        ({"target_cameras": ["b", "b"]}, "must not repeat"),
        ({"samples": []}, "at least one identity"),
        ({"samples": [{"identity": "A", "sequence": "s"}]}, "A/s needs either frames or fractions"),
        ({"samples": [{"identity": "A", "sequence": "s", "frames": [3, 1]}]}, "must rise"),
        ({"samples": [{"identity": "A", "sequence": "s", "frames": [1, 1]}]}, "must rise"),
        ({"samples": [{"identity": "A", "sequence": "s", "frames": [-1]}]}, "must rise"),
        ({"samples": [{"identity": "A", "sequence": "s", "frames": [0.5]}]}, "frames must be of kind int"),
        ({"samples": [{"identity": "A", "sequence": "s", "fractions": [1.0]}]}, r"in \[0, 1\)"),
        ({"samples": [{"identity": "A", "sequence": "*", "frames": [1]}]}, "must name their sequence"),
        ({"samples": 2 * [{"identity": "A", "sequence": "s", "frames": [1]}]}, "A/s twice"),
        ({"samples": [{"identity": "A", "frames": [1]}]}, "a sample lacks 'sequence'"),
        ({"colour_space": "sRGB"}, "does not know 'colour_space'"),
        ({"schema": "omega/protocol/0"}, "omega/protocol/1"),
        ({"ssim_window": 10}, "odd"),
        ({"crop_radius_m": 0}, "above 0"),
    ],
)
def test_what_is_wrong_is_said(change: dict, says: str) -> None:
    with pytest.raises(OmegaError, match=says) as caught:
        loads(json.dumps(json.loads(dumps(SMALL)) | change), "mine.json")
    assert caught.value.message.startswith("mine.json") and "examples/protocols" in caught.value.hint


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(OmegaError, match=r"none\.json cannot be read"):
        load(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"schema":')
    with pytest.raises(OmegaError, match=r"half\.json is no valid protocol"):
        load(tmp_path / "half.json")
    with pytest.raises(OmegaError, match="no standard protocol for 'lfw'"):
        standard("lfw")
