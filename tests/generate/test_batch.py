"""Names of a batch's avatars: one each, the same whatever the order or the number of runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from omega_cli.errors import OmegaError
from omega_cli.generate import batch


def test_a_folder_stands_for_its_pictures(tmp_path: Path):
    for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "sub.jpg").mkdir()
    pictures, is_batch = batch.collect([tmp_path])
    assert [p.name for p in pictures] == ["a.PNG", "b.jpg"] and is_batch
    assert batch.collect([tmp_path / "b.jpg"]) == ([tmp_path / "b.jpg"], False)
    assert batch.collect([tmp_path / "b.jpg", tmp_path]) == ([tmp_path / "b.jpg", tmp_path / "a.PNG"], True)


def test_an_empty_folder_says_so(tmp_path: Path):
    with pytest.raises(OmegaError, match="no pictures"):
        batch.collect([tmp_path])


def test_names_are_distinct_and_do_not_depend_on_order():
    pictures = [Path(p) for p in ("x/a.jpg", "x/a.png", "y/a.jpg", "x/b.jpg", "x/B.jpeg", "c.png")]
    names = batch.avatar_names(pictures)
    assert len({n.lower() for n in names}) == len(names)
    assert names[-1] == "c"
    assert batch.avatar_names(pictures[::-1]) == names[::-1]
    with pytest.raises(OmegaError, match="would become"):
        batch.avatar_names([Path("p/x/a.jpg"), Path("q/x/a.jpg")])
