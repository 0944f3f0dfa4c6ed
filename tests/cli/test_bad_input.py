"""Bad input from end to end: exit 1, one or two lines that say what and what to do, nothing half-written."""

from __future__ import annotations

import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from omega_cli.avatar import codecs, record
from omega_cli.cli import cli


def omega(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def refused(result: Result, *said: str, lines: int = 2) -> None:
    assert result.exit_code == 1, result.output
    assert result.stdout == "" and "Traceback" not in result.stderr and "Unexpected" not in result.stderr
    error = result.stderr[result.stderr.index("Error: ") :]
    assert len(error.splitlines()) <= lines, error
    for text in said:
        assert text in error, error


def noise(size: int = 256) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (size, size, 3), np.uint8))


def small(astronaut: Path) -> Image.Image:
    picture = Image.open(astronaut).convert("RGB")
    return picture.resize((picture.width // 3, picture.height // 3))


PHOTOS: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "nobody.png": (lambda p, face: noise().save(p), "face"),
    "far.png": (lambda p, face: small(face).save(p), "64"),
    "empty.jpg": (lambda p, face: p.write_bytes(b""), "0 bytes"),
    "text.jpg": (lambda p, face: p.write_text("hello"), "text.jpg"),
    "cut.png": (lambda p, face: p.write_bytes(face.read_bytes()[:3000]), "cut.png"),
    "folder.jpg": (lambda p, face: p.mkdir(), "folder"),
    "none.jpg": (lambda p, face: None, "none.jpg"),
    "film.mp4": (lambda p, face: codecs.write_video(p, [np.zeros((64, 64, 3), np.uint8)] * 3, 25), "film"),
}


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_that_cannot_be_used(name: str, tmp_path: Path, astronaut: Path) -> None:
    make, said = PHOTOS[name]
    make(tmp_path / name, astronaut)
    for command in ("track", "generate"):
        refused(omega(command, tmp_path / name, "-o", tmp_path / "out" / "avatar"), said)
        assert not (tmp_path / "out").exists()


FILMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "nobody.mp4": (
        lambda p: codecs.write_video(p, [np.full((96, 96, 3), i, np.uint8) for i in range(9)], 25),
        "face",
    ),
    "empty.mp4": (lambda p: p.write_bytes(b""), "0 bytes"),
    "text.mp4": (lambda p: p.write_bytes(b"\x00\x00\x00\x20ftypisom" + b"no film " * 9), "text.mp4"),
    "folder.mp4": (lambda p: p.mkdir(), "folder"),
    "none.mp4": (lambda p: None, "none.mp4"),
}


@pytest.mark.parametrize("name", FILMS)
def test_a_film_that_cannot_be_used(name: str, tmp_path: Path) -> None:
    make, said = FILMS[name]
    make(tmp_path / name)
    refused(omega("track", tmp_path / name, "-o", tmp_path / "out.npz"), said)
    assert {p.name for p in tmp_path.iterdir()} <= {name}


def test_two_people_are_said_and_one_may_be_chosen(tmp_path: Path, astronaut: Path) -> None:
    face = Image.open(astronaut).convert("RGB")
    both = Image.new("RGB", (face.width * 2, face.height))
    both.paste(face, (0, 0))
    both.paste(face.resize((face.width * 3 // 4, face.height * 3 // 4)), (face.width, 0))
    both.save(tmp_path / "both.png")
    refused(omega("track", tmp_path / "both.png", "-o", tmp_path / "a", "--face", 7), "7")
    assert not (tmp_path / "a").exists()
    done = omega("track", tmp_path / "both.png", "-o", tmp_path / "a", "--face", 1)
    assert done.exit_code == 0, done.stderr
    assert "2 faces" in done.stderr and record.read_stage(tmp_path / "a" / "source")["params"]["face"] == 1


def test_somebody_elses_folder_stays_as_it_is(tmp_path: Path, astronaut: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    refused(omega("generate", astronaut, "-o", tmp_path / "home"), "letter.txt", "-o")
    assert [p.name for p in (tmp_path / "home").iterdir()] == ["letter.txt"]
    (tmp_path / "file").write_text("x")
    refused(omega("track", astronaut, "-o", tmp_path / "file"), "is a file")
    refused(omega("render", tmp_path / "file"), "is not an avatar")


@pytest.mark.parametrize("command", ["mv-diffuse", "deform-flame", "splat-uv", "decode", "render"])
def test_a_stage_without_its_input_names_it(command: str, tmp_path: Path) -> None:
    photo = tmp_path / "face.png"
    noise(32).save(photo)
    avatar = record.create_avatar(tmp_path / "avatar", photo)
    avatar.root.mkdir()
    codecs.save_json(avatar.document, record.read_avatar(avatar))
    refused(omega(command, avatar.root), "is missing", "omega ")
    assert [p.name for p in avatar.root.iterdir()] == ["avatar.json"]


def test_a_newer_avatar_is_refused_by_every_command(tmp_path: Path, astronaut: Path) -> None:
    (tmp_path / "avatar").mkdir()
    codecs.save_json(tmp_path / "avatar" / "avatar.json", {"schema": "omega/avatar/9"})
    for command in ("mv-diffuse", "decode", "render", "inspect"):
        refused(omega(command, tmp_path / "avatar"), "newer omega", "Update omega")
    refused(omega("generate", astronaut, "-o", tmp_path / "avatar"), "newer omega")


def test_a_full_disk_ends_with_words(tmp_path: Path) -> None:
    """A real limit on file size: what is written beyond it fails as on a full disk."""
    rng = np.random.default_rng(0)
    arrays = {
        "v_template": rng.normal(size=(12, 3)), "shapedirs": rng.normal(size=(12, 3, 400)),
        "posedirs": rng.normal(size=(12, 3, 36)), "J_regressor": rng.random((5, 12)),
        "weights": rng.random((12, 5)), "f": rng.integers(0, 12, (8, 3)),
        "kintree_table": np.array([[-1, 0, 1, 1, 1], [0, 1, 2, 3, 4]]),
    }  # fmt: skip
    (tmp_path / "flame.pkl").write_bytes(pickle.dumps(arrays))
    done = subprocess.run(
        [sys.executable, "-m", "omega_cli", "weights", "import", str(tmp_path / "flame.pkl")],
        # Python itself would keep half-written bytecode of what it imports under such a limit.
        env={"OMEGA_CACHE": str(tmp_path / "cache"), "PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)),
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1 and done.stderr.startswith("Error: The disk is full"), done.stderr
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
