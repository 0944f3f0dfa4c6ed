"""Whole or not at all, whatever kills the process: real processes, real SIGKILL, real file system."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from omega_cli.avatar import folders
from omega_cli.errors import OmegaError

# Overwrites out/ (holding v=old) with v=new, and shoots itself at the n-th thing that it asks of the
# file system. Forks for each n, so that the interpreter starts once.
SHOOT = """
import json, os, shutil, signal, sys
from pathlib import Path
from omega_cli.avatar import folders

root, results, shot = Path(sys.argv[1]), [], 0
WATCHED = ("open", "os.", "shutil.", "fcntl.")

def overwrite(n):
    count = 0
    def hook(event, args):
        nonlocal count
        if event.startswith(WATCHED):
            count += 1
            if count == n:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    with folders.writing(root / "out") as scratch:
        (scratch / "a").write_text("new")
        (scratch / "sub").mkdir()
        (scratch / "sub" / "b").write_text("new")

for n in range(1, 1000):
    shutil.rmtree(root, ignore_errors=True)
    (root / "out" / "sub").mkdir(parents=True)
    (root / "out" / "a").write_text("old")
    (root / "out" / "sub" / "b").write_text("old")
    child = os.fork()
    if child == 0:
        overwrite(n)
        os._exit(0)
    killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    raw = sorted(p.name for p in root.iterdir())
    folders.recover_all(root)
    left = sorted(p.name for p in root.iterdir())
    files = [p for p in (root / "out").rglob("*") if p.is_file()]
    texts = sorted((str(p.relative_to(root / "out")), p.read_text()) for p in files)
    results.append({"killed": killed, "raw": raw, "left": left, "texts": texts})
    if not killed:
        break
print(json.dumps(results))
"""


def test_sigkill_at_every_step_leaves_the_old_or_the_new_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHOOT, str(tmp_path / "place")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert len(results) > 20, "the writer was to be shot at many steps"
    assert not results[-1]["killed"] and all(r["killed"] for r in results[:-1])
    seen = set()
    for result in results:
        assert result["left"] == ["out"], result
        versions = {text for _, text in result["texts"]}
        assert len(versions) == 1 and [name for name, _ in result["texts"]] == ["a", "sub/b"], result
        seen |= versions
    assert seen == {"old", "new"}
    between = [r for r in results if "out" not in r["raw"]]
    assert between, "one of the shots must have hit between the two renames"
    assert all({t for _, t in r["texts"]} == {"old"} for r in between)


def test_a_killed_writer_is_swept_by_the_next(tmp_path: Path) -> None:
    """SIGKILL from outside, in the middle of the work."""
    code = (
        "import sys, time; from pathlib import Path; from omega_cli.avatar import folders\n"
        "with folders.writing(Path(sys.argv[1])) as scratch:\n"
        "    (scratch / 'half').write_text('x'); print('ready', flush=True); time.sleep(60)\n"
    )
    target = tmp_path / "out"
    command = [sys.executable, "-c", code, str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        with pytest.raises(OmegaError, match="Another omega process"), folders.writing(target):
            pass
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not target.exists() and len(list(tmp_path.iterdir())) == 1
    with folders.writing(target) as scratch:
        (scratch / "whole").write_text("y")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert [p.name for p in target.iterdir()] == ["whole"]


def test_an_interrupted_block_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "new" / "parents" / "out"
    with pytest.raises(KeyboardInterrupt), folders.writing(target) as scratch:
        (scratch / "a").write_text("x")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_old_folder(tmp_path: Path) -> None:
    """/dev/full is a real ENOSPC."""
    target = tmp_path / "out"
    with folders.writing(target) as scratch:
        (scratch / "a").write_text("old")
    with pytest.raises(OSError, match="No space left"), folders.writing(target) as scratch:
        (scratch / "a").write_text("new")
        (scratch / "big").symlink_to("/dev/full")
        (scratch / "big").write_bytes(bytes(10))
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (target / "a").read_text() == "old"


def test_a_leftover_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    with folders.writing(tmp_path / "out") as scratch:
        (scratch / "a").write_text("x")
        code = "import sys; from pathlib import Path; from omega_cli.avatar import folders\n"
        code += "folders.recover_all(Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
        assert (scratch / "a").exists()
    assert (tmp_path / "out" / "a").exists()


def test_a_number_reused_by_another_process_hides_no_leftover(tmp_path: Path) -> None:
    """The name carries a process number that lives (ours), but nobody holds its lock."""
    dead = tmp_path / f".out.writing-{os.getpid()}"
    dead.mkdir()
    (dead / "half").write_text("x")
    folders.recover_all(tmp_path)
    assert not dead.exists()


def test_writing_file_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with pytest.raises(ValueError, match="stop"), folders.writing_file(path) as scratch:
        assert scratch.suffix == ".mp4"
        scratch.write_text("half")
        raise ValueError("stop")
    assert list(tmp_path.iterdir()) == []
    with folders.writing_file(path) as scratch:
        scratch.write_text("whole")
    assert path.read_text() == "whole" and [p.name for p in tmp_path.iterdir()] == ["film.mp4"]


def test_a_killed_film_is_swept_by_the_next(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from omega_cli.avatar import folders\n"
        "with folders.writing_file(Path(sys.argv[1])) as scratch:\n"
        "    scratch.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "film.mp4"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL and len(list(tmp_path.iterdir())) == 2
    with folders.writing_file(path) as scratch:
        (tmp_path / ".film.writing-1.png").write_text("of another file")
        scratch.write_text("new")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".film.writing-1.png", "film.mp4"]
    assert path.read_text() == "new"
    folders.recover_all(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"]


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "avatar").write_text("a file")
    with pytest.raises(OmegaError, match="is a file"), folders.writing(tmp_path / "avatar" / "uv"):
        pass


def test_two_writers_of_different_folders_do_not_meet(tmp_path: Path) -> None:
    begun = time.monotonic()
    with folders.writing(tmp_path / "one") as one, folders.writing(tmp_path / "two") as two:
        (one / "a").write_text("1")
        (two / "a").write_text("2")
    assert time.monotonic() - begun < 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "two"]
