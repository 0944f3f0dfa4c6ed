"""Records: freshness from digests, hand edits respected, foreign folders refused, newer schemas named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from omega_cli.avatar import layout, record
from omega_cli.avatar.layout import Avatar
from omega_cli.console import NullReport
from omega_cli.errors import OmegaError


@dataclass(frozen=True)
class Config:
    size: int = 8
    names: tuple[str, ...] = ("a", "b")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "face.jpg"
    path.write_bytes(b"a photo")
    return path


def write_source(avatar: Avatar, photo: Path, text: str = "pixels", **options) -> None:
    with record.writing_stage(
        avatar, stage="track", folder=avatar.source, config=Config(), inputs=[photo], **options
    ) as out:
        (out.path / layout.SOURCE_IMAGE).write_text(text)
        out.metrics["error_px"] = 1.5


def write_views(avatar: Avatar, **options) -> None:
    options = {"config": Config()} | options
    with record.writing_stage(
        avatar, stage="mv-diffuse", folder=avatar.views, inputs=[avatar.source], **options
    ) as out:
        (out.path / "rgb").mkdir()
        (out.path / layout.view_rgb("000")).write_text("view of " + (avatar.source / "image.png").read_text())


@pytest.fixture
def avatar(tmp_path: Path, photo: Path) -> Avatar:
    made = record.create_avatar(tmp_path / "avatar", photo)
    write_source(made, photo)
    write_views(record.open_avatar(made.root))
    return record.open_avatar(made.root)


def test_a_stage_says_what_it_read_and_wrote(avatar: Avatar, photo: Path) -> None:
    document = record.read_stage(avatar.views)
    assert document["inputs"] == {"source/image.png": record.digest(avatar.source / "image.png")}
    assert document["outputs"] == {"rgb/000.png": record.digest(avatar.views / "rgb/000.png")}
    assert document["params"] == {"size": 8, "names": ["a", "b"]}
    source = record.read_stage(avatar.source)
    assert source["inputs"] == {"external:face.jpg": record.digest(photo)}
    assert source["metrics"] == {"error_px": 1.5}
    about = json.loads(avatar.document.read_text())
    assert about["source"] == {"name": "face.jpg", "sha256": record.digest(photo)}
    assert str(photo.parent) not in avatar.document.read_text() + json.dumps(source["inputs"])
    assert record.inputs_of(avatar.views) == document["inputs"]


def test_a_folder_that_no_stage_made_was_made_of_nothing_known(avatar: Avatar) -> None:
    assert record.inputs_of(avatar.uv) == {}
    (avatar.views / layout.STAGE).write_text("{")
    assert record.inputs_of(avatar.views) == {}
    (avatar.views / layout.STAGE).unlink()
    assert record.inputs_of(avatar.views) == {}


def test_fresh_then_each_cause_of_staleness(avatar: Avatar) -> None:
    now = {"config": Config(), "seed": 0}
    assert record.status(avatar, avatar.views, **now).state == "fresh"
    assert record.status(avatar, avatar.views, config=Config(size=9)).reasons == ("size is 9, was 8",)
    assert record.status(avatar, avatar.views, seed=3).reasons == ("seed is 3, was 0",)
    (avatar.source / "image.png").write_text("other pixels")
    assert record.status(avatar, avatar.views).reasons == ("source/image.png changed",)
    assert record.status(avatar, avatar.source).state == "edited"
    (avatar.source / "image.png").unlink()
    assert record.status(avatar, avatar.views).reasons == ("source/image.png is missing",)
    assert record.status(avatar, avatar.source).state == "damaged"


def test_the_key_ignores_when_and_where(avatar: Avatar, tmp_path: Path, photo: Path) -> None:
    other = record.create_avatar(tmp_path / "other", photo)
    write_source(other, photo)
    assert record.read_stage(other.source)["key"] == record.read_stage(avatar.source)["key"]
    write_source(other, photo, seed=1)
    assert record.read_stage(other.source)["key"] != record.read_stage(avatar.source)["key"]


def test_changed_weights_make_stale(tmp_path: Path, photo: Path) -> None:
    from omega_cli import weights

    right = weights.registry()["u2netp"].sha256
    avatar = record.create_avatar(tmp_path / "avatar", photo)
    write_source(avatar, photo, weights={"u2netp": right})
    assert record.status(avatar, avatar.source).state == "fresh"
    write_source(avatar, photo, weights={"u2netp": "0" * 64})
    assert record.status(avatar, avatar.source).reasons == ("the weights u2netp changed",)


def test_edited_folders_are_used_and_never_overwritten(avatar: Avatar) -> None:
    view = avatar.views / layout.view_rgb("000")
    view.write_text("mine")
    found = record.status(avatar, avatar.views)
    assert (found.state, found.files, found.usable) == ("edited", ("rgb/000.png",), True)
    with pytest.raises(OmegaError, match=r"views/ was edited by hand \(rgb/000.png changed\)") as caught:
        write_views(avatar)
    assert "--force" in caught.value.hint and view.read_text() == "mine"
    write_views(avatar, force=True)
    assert view.read_text() == "view of pixels"
    assert record.status(avatar, avatar.views).state == "fresh"


def test_an_added_file_counts_as_an_edit_and_litter_does_not(avatar: Avatar) -> None:
    (avatar.views / ".DS_Store").write_text("litter")
    assert record.status(avatar, avatar.views).state == "fresh"
    (avatar.views / "rgb" / "045.png").write_text("mine")
    assert record.status(avatar, avatar.views).files == ("rgb/045.png",)


def test_a_folder_put_there_by_hand_is_used(avatar: Avatar) -> None:
    avatar.mesh.mkdir()
    assert record.status(avatar, avatar.mesh).state == "missing"
    (avatar.mesh / layout.OFFSETS).write_text("mine")
    assert record.status(avatar, avatar.mesh).state == "edited"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "omega/stage/1"}', "\x00\xff"])
def test_a_damaged_record_is_named_with_its_cure(avatar: Avatar, text: str) -> None:
    (avatar.views / layout.STAGE).write_text(text)
    assert record.status(avatar, avatar.views).state == "damaged"
    with pytest.raises(OmegaError, match=r"stage\.json is damaged") as caught:
        record.read_stage(avatar.views)
    assert f"omega mv-diffuse {avatar.root}" in caught.value.hint
    write_views(avatar)
    assert record.status(avatar, avatar.views).state == "fresh"


def test_newer_schemas_are_refused_and_kept(avatar: Avatar) -> None:
    path = avatar.views / layout.STAGE
    path.write_text(path.read_text().replace("omega/stage/1", "omega/stage/2"))
    assert record.status(avatar, avatar.views).state == "newer"
    with pytest.raises(OmegaError, match="newer omega"):
        write_views(avatar)
    avatar.document.write_text(avatar.document.read_text().replace("omega/avatar/1", "omega/avatar/7"))
    with pytest.raises(OmegaError, match=r"made by a newer omega \(omega/avatar/7") as caught:
        record.open_avatar(avatar.root)
    assert "Update omega" in caught.value.hint


def test_a_failing_stage_leaves_no_trace(tmp_path: Path, photo: Path) -> None:
    avatar = record.create_avatar(tmp_path / "deep" / "avatar", photo)
    with (
        pytest.raises(OmegaError, match="no face"),
        record.writing_stage(avatar, stage="track", folder=avatar.source, config=Config()) as out,
    ):
        (out.path / "half.png").write_text("half")
        raise OmegaError("There is no face.")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["face.jpg"]


def test_a_full_disk_leaves_no_trace(tmp_path: Path, photo: Path) -> None:
    avatar = record.create_avatar(tmp_path / "avatar", photo)
    with (
        pytest.raises(OSError, match="No space left"),
        record.writing_stage(avatar, stage="track", folder=avatar.source, config=Config()) as out,
    ):
        (out.path / "image.png").symlink_to("/dev/full")
        (out.path / "image.png").write_text("pixels")
    assert not avatar.root.exists()


def test_somebody_elses_folder_is_refused(tmp_path: Path, photo: Path) -> None:
    other = tmp_path / "holiday"
    other.mkdir()
    record.create_avatar(other, photo)
    (other / "beach.jpg").write_text("x")
    with pytest.raises(OmegaError, match=r"is not an avatar \(it holds beach.jpg\)"):
        record.create_avatar(other, photo)
    with pytest.raises(OmegaError, match="is a file"):
        record.create_avatar(photo, photo)
    with pytest.raises(OmegaError, match=r"has no avatar\.json"):
        record.open_avatar(other)
    with pytest.raises(OmegaError, match="no avatar folder"):
        record.open_avatar(tmp_path / "nothing")


def test_the_avatar_of_another_picture_needs_force(avatar: Avatar, tmp_path: Path) -> None:
    other = tmp_path / "other.jpg"
    other.write_bytes(b"another photo")
    with pytest.raises(OmegaError, match=r"avatar of another picture \(face.jpg\)"):
        record.create_avatar(avatar.root, other)
    forced = record.create_avatar(avatar.root, other, force=True)
    assert record.status(forced, forced.source).state == "stale"
    write_source(forced, other, "other pixels")
    assert json.loads(avatar.document.read_text())["source"]["name"] == "other.jpg"
    assert record.status(record.open_avatar(avatar.root), avatar.views).state == "stale"


def test_a_moved_avatar_stays_fresh(avatar: Avatar, tmp_path: Path, photo: Path) -> None:
    photo.unlink()
    avatar.root.rename(tmp_path / "moved")
    moved = record.open_avatar(tmp_path / "moved")
    assert [record.status(moved, f).state for f in (moved.source, moved.views)] == ["fresh", "fresh"]


def test_warnings_reach_the_user_and_the_record(tmp_path: Path, photo: Path) -> None:
    avatar, report = record.create_avatar(tmp_path / "avatar", photo), NullReport()
    report.warn("said before")
    with record.writing_stage(
        avatar, stage="track", folder=avatar.source, config=Config(), report=report
    ) as out:
        (out.path / "a").write_text("x")
        out.warn("glasses")
        report.warn("dark")
    assert record.read_stage(avatar.source)["warnings"] == ["glasses", "dark"]
    assert report.warnings == ["said before", "glasses", "dark"]


KILLED = """
import os, signal, sys
from pathlib import Path
from omega_cli.avatar import record
avatar = record.create_avatar(Path(sys.argv[1]), Path(sys.argv[2]))
with record.writing_stage(avatar, stage="track", folder=avatar.source, config={}) as out:
    (out.path / "image.png").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_run_after_a_kill_goes_on(tmp_path: Path, photo: Path) -> None:
    root = tmp_path / "avatar"
    done = subprocess.run([sys.executable, "-c", KILLED, str(root), str(photo)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (root / layout.AVATAR).exists() and os.listdir(root) != []
    avatar = record.create_avatar(root, photo)
    assert os.listdir(root) == []
    write_source(avatar, photo)
    assert sorted(os.listdir(root)) == ["avatar.json", "source"]


SHOOT = """
import json, os, shutil, signal, sys
from pathlib import Path
from omega_cli.avatar import record

place, photo, results = Path(sys.argv[1]), Path(sys.argv[2]), []

def track(avatar):
    with record.writing_stage(avatar, stage="track", folder=avatar.source, config={}, inputs=[photo]) as out:
        (out.path / "image.png").write_text("pixels")

def shot(n):
    count = 0
    def hook(event, args):
        nonlocal count
        count += event.startswith(("open", "os.", "shutil.", "fcntl."))
        if count == n:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    track(record.create_avatar(place / "avatar", photo))

for n in range(1, 1000):
    shutil.rmtree(place, ignore_errors=True)
    child = os.fork()
    if child == 0:
        shot(n)
        os._exit(0)
    killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    avatar = record.create_avatar(place / "avatar", photo)
    state = record.status(avatar, avatar.source).state
    if state != "fresh":
        track(avatar)
    avatar = record.open_avatar(place / "avatar")
    after, names = record.status(avatar, avatar.source).state, sorted(os.listdir(avatar.root))
    results.append([killed, state, after, names])
    if not killed:
        break
print(json.dumps(results))
"""


def test_a_new_avatar_shot_at_every_step_is_made_whole_by_the_next_run(tmp_path: Path, photo: Path) -> None:
    command = [sys.executable, "-c", SHOOT, str(tmp_path / "place"), str(photo)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert len(results) > 30 and {state for _, state, *_ in results} == {"missing", "fresh"}
    assert all(after == "fresh" for _, _, after, _ in results)
    assert all(names == ["avatar.json", "source"] for *_, names in results)


def test_needs_names_file_and_command(avatar: Avatar) -> None:
    with pytest.raises(OmegaError, match=r"normal/270.png is missing") as caught:
        record.needs(avatar.views / layout.view_normal("270"))
    assert f"omega mv-diffuse {avatar.root}" in caught.value.hint
