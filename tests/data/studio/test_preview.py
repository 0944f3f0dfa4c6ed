"""`omega studio preview` from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from omega_cli.avatar.codecs import load_image
from omega_cli.data.studio.sheets import VIEWS, grid


def test_sheets_of_two_people(omega, tmp_path: Path) -> None:
    done = omega("studio", "preview", "-o", tmp_path / "sheets", "--people", 2, "--size", 48, "--seed", 3)
    assert done.returncode == 0, done.stderr
    paths = [Path(line) for line in done.stdout.split()]
    assert {p.stem for p in paths} == {name for name, _ in VIEWS} | {"people", "labels", "normals"}
    for path in paths:
        columns = 8 * 48
        assert load_image(path).shape == (3, 48, columns)
    record = json.loads((tmp_path / "sheets" / "preview.json").read_text())
    assert [p["seed"] for p in record["people"]] == [3, 4]
    assert record["size"] == 48 and len(record["head"]["sha256"]) == 64


def test_a_file_is_no_folder(omega, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    done = omega("studio", "preview", "-o", tmp_path / "taken", "--people", 1, "--size", 32)
    assert done.returncode == 2 and "is a file" in done.stderr
    assert (tmp_path / "taken").read_text() == "mine"


def test_grid_keeps_order() -> None:
    tiles = [torch.full((3, 2, 2), i / 10) for i in range(5)]
    sheet = grid(tiles, 3)
    assert sheet.shape == (3, 4, 6)
    assert sheet[0, ::2, ::2].tolist() == [
        [0.0, torch.tensor(0.1).item(), torch.tensor(0.2).item()],
        [torch.tensor(0.3).item(), torch.tensor(0.4).item(), torch.tensor(0.2).item()],
    ]
