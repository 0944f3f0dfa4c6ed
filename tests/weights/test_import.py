"""`omega weights import`: a FLAME pickle becomes an npz once, and a hostile one becomes nothing."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from omega_cli import weights
from omega_cli.cli import cli


def weights_import(path: Path) -> Result:
    return CliRunner().invoke(cli, ["weights", "import", str(path)])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMEGA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OMEGA_WEIGHTS", raising=False)
    return tmp_path / "cache"


def flame_like(V: int = 12) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "v_template": rng.normal(size=(V, 3)),
        "shapedirs": rng.normal(size=(V, 3, 400)),
        "posedirs": rng.normal(size=(V, 3, 36)),
        "J_regressor": rng.random((5, V)),
        "weights": rng.random((V, 5)),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32),
        "f": rng.integers(0, V, (8, 3)).astype(np.uint32),
    }


def test_a_flame_pickle_becomes_the_registered_npz(cache: Path, tmp_path: Path) -> None:
    arrays = flame_like()
    (tmp_path / "flame2023.pkl").write_bytes(pickle.dumps(arrays, protocol=2))
    done = weights_import(tmp_path / "flame2023.pkl")
    assert done.exit_code == 0, done.stderr
    path = cache / "weights" / "flame2023.npz"
    assert done.stdout.strip() == str(path) and "licence" in done.stderr
    assert weights.resolve("flame2023") == path
    with np.load(path, allow_pickle=False) as converted:
        assert np.allclose(converted["v_template"], arrays["v_template"], atol=1e-6)
        assert converted["shapedirs"].shape == (12, 3, 300) and converted["exprdirs"].shape == (12, 3, 100)


class Hostile:
    def __reduce__(self):
        return os.system, ("touch owned",)


@pytest.mark.parametrize("data", [pickle.dumps(Hostile()), b"", b"not a pickle", pickle.dumps({"a": 1})])
def test_anything_else_is_refused_and_keeps_nothing(
    cache: Path, tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flame2023.pkl").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    done = weights_import(tmp_path / "flame2023.pkl")
    assert done.exit_code == 1 and done.stdout == "" and done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["flame2023.pkl"]


def test_a_missing_pickle_is_named(cache: Path, tmp_path: Path) -> None:
    done = weights_import(tmp_path / "none.pkl")
    assert done.exit_code == 1 and "none.pkl is not a file" in done.stderr and not cache.exists()
