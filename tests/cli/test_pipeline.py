"""generate, render and reenact as commands, on the toy avatar: real stages, real files, small pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import avatar_networks
import numpy as np
import pytest
import torch
import toy
from click.testing import CliRunner, Result

from omega_cli.avatar import codecs, freshness, layout
from omega_cli.avatar.layout import Avatar
from omega_cli.cli import cli
from omega_cli.head.params import HeadParams

FRAMES = 6
UV_SIZE = 128
FIT_STEPS = 2  # every later run keeps them: time is short


def omega(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def generate(avatar: Avatar, *more: object) -> dict:
    """`omega generate --json` on the toy's photo -> what became of each stage."""
    photo = avatar.root.with_suffix(".png")
    result = omega("generate", photo, "-o", avatar.root, "--frames", FRAMES, "--json", *more)
    assert result.exit_code == 0, result.stderr
    return {name: one["what"] for name, one in json.loads(result.stdout)["avatars"][str(avatar.root)].items()}


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    avatar = toy.make_toy_avatar(tmp_path_factory.mktemp("pipeline") / "toy")
    assert list(generate(avatar, "--until", "deform-flame").values()) == ["edited", "edited", "made"]
    assert omega("splat-uv", avatar.root, "--uv-size", UV_SIZE).exit_code == 0
    assert omega("render", avatar.root).exit_code == 1  # no gaussians/ yet
    assert omega("decode", avatar.root, "--fit-steps", FIT_STEPS).exit_code == 0
    (avatar.gaussians / layout.UV_GAUSSIANS).unlink()
    what = generate(avatar)
    assert list(what.values()) == ["edited", "edited", "fresh", "fresh", "made", "made"]
    return avatar.root


@pytest.fixture
def made(made_once: Path, tmp_path: Path) -> Avatar:
    """A copy of the finished toy avatar, with its photo beside it."""
    shutil.copytree(made_once, tmp_path / "toy")
    shutil.copy(made_once.with_suffix(".png"), tmp_path / "toy.png")
    return Avatar(tmp_path / "toy")


def test_a_second_run_makes_nothing(made: Avatar):
    before = {p: p.stat().st_mtime_ns for p in made.root.rglob("*") if p.is_file()}
    assert set(generate(made).values()) == {"edited", "fresh"}
    assert {p: p.stat().st_mtime_ns for p in made.root.rglob("*") if p.is_file()} == before


def test_settings_of_a_stage_survive_the_next_generate(made: Avatar):
    """splat-uv was run with its own uv-size: remaking it keeps that size."""
    shutil.rmtree(made.gaussians)
    (made.uv / layout.FEATURES).unlink()
    what = generate(made, "--until", "splat-uv")
    assert what["splat-uv"] == "made"
    assert freshness.read_stage(made.uv)["params"]["uv_size"] == UV_SIZE


def test_an_edit_is_kept_and_what_depends_on_it_is_remade(made: Avatar):
    offsets = codecs.load_offsets(made.mesh / layout.OFFSETS)
    scalp = toy.head().regions["scalp"]
    offsets[scalp] += torch.tensor([0.0, 0.01, 0.0])
    codecs.save_offsets(made.mesh / layout.OFFSETS, offsets)
    what = generate(made)
    assert what["deform-flame"] == "edited"
    assert what["splat-uv"] == what["decode"] == what["render"] == "made"
    assert freshness.read_stage(made.gaussians)["params"]["fit_steps"] == FIT_STEPS
    torch.testing.assert_close(codecs.load_offsets(made.mesh / layout.OFFSETS), offsets)


def test_from_until_and_force(made: Avatar):
    assert generate(made, "--from", "decode") == {"decode": "made", "render": "made"}
    assert generate(made, "--from", "decode", "--until", "decode") == {"decode": "made"}
    assert omega("generate", "x.jpg", "-o", "y", "--from", "render", "--until", "track").exit_code == 2
    (made.gaussians / layout.UV_GAUSSIANS).unlink()
    photo = made.root.with_suffix(".png")
    result = omega("generate", photo, "-o", made.root, "--from", "render")
    assert result.exit_code == 1 and "decode" in result.stderr


def test_self_check_reproduces_the_photo(made: Avatar):
    metrics = freshness.read_stage(made.renders / layout.TURNTABLE)["metrics"]
    assert metrics["psnr_head"] > 21 and metrics["psnr_face"] > 21  # 64² views; 23 to 24 measured
    assert metrics["silhouette_iou"] > 0.9


def test_turntable_film_sheet_and_cameras(made: Avatar):
    folder = made.renders / layout.TURNTABLE
    pictures = film(folder / layout.VIDEO)
    assert len(pictures) == FRAMES == len(codecs.load_cameras(folder / layout.CAMERAS))
    assert pictures[0].shape == (512, 512, 3)
    corner = pictures[0][:20, :20].mean((0, 1))
    assert np.abs(corner - 0.86 * 255).max() < 6
    assert np.abs(pictures[0].astype(int) - pictures[3]).mean() > 5  # the face, then the back
    assert codecs.load_image(folder / layout.SHEET).shape[0] == 3


def test_chosen_directions_with_transparency(made: Avatar):
    result = omega(
        "render",
        made.root,
        "--name",
        "sides",
        "--azimuth",
        "0,90",
        "--size",
        96,
        "--background",
        "transparent",
    )
    assert result.exit_code == 0, result.stderr
    folder = Path(result.stdout.strip())
    assert folder == made.renders / "sides"
    front = codecs.load_image(folder / layout.frame(0), 4)
    assert front.shape == (4, 96, 96) and front[3, 48, 48] > 0.98 and front[3, 2, 2] == 0
    again = omega(
        "render", made.root, "--name", "again", "--cameras", folder / layout.CAMERAS, "--keep-frames"
    )
    assert again.exit_code == 0, again.stderr
    flat = codecs.load_image(made.renders / "again" / layout.frame(0), 3)
    over_grey = front[:3] * front[3:] + 0.86 * (1 - front[3:])
    assert (flat - over_grey).abs().mean() < 0.004  # two 8-bit roundings


def test_reenact_follows_a_motion_file(made: Avatar, tmp_path: Path):
    """Neutral, jaw open, blink, head turned: each moves what it should, and the neutral stays."""
    head, T = toy.head(), 8
    motion = HeadParams.zeros(head.S, head.E, T)
    expression, turn = motion.expression.clone(), motion.global_orient.clone()
    expression[4, head.expression_names.index("jawOpen")] = 0.8
    expression[5, head.expression_names.index("eyeBlinkLeft")] = 1.0
    turn[6, 1] = 0.5
    driver = tmp_path / "nod.npz"
    codecs.save_params(driver, motion.replace(expression=expression, global_orient=turn), fps=12.5, head=head)
    out = tmp_path / "out.mp4"
    result = omega("reenact", made.root, driver, "-o", out, "--size", 128, "--keep-frames")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == str(out)
    folder = made.reenact / "nod"
    frames = [codecs.load_image(folder / layout.frame(i)) for i in range(T)]
    moved = [(f - frames[0]).abs().mean(0) > 0.08 for f in frames]
    assert not any(m.any() for m in moved[1:4]) and not moved[7].any()
    rows = [torch.nonzero(m)[:, 0].float() for m in moved]
    columns = torch.nonzero(moved[5])[:, 1].float()
    assert len(rows[4]) > 20 and len(rows[5]) > 3 and moved[6].sum() > 5 * moved[4].sum()
    assert rows[5].mean() < rows[4].mean() - 5  # eyes above mouth
    assert columns.mean() > 64  # the subject's left is the picture's right
    assert len(film(out)) == T and fps(out) == 12.5
    assert (out.read_bytes()) == (folder / layout.VIDEO).read_bytes()
    assert "Synthetic" in tags(out)["comment"]
    kept = codecs.load_params(folder / layout.MOTION)
    torch.testing.assert_close(kept.global_orient, turn)


def test_networks_of_ones_own_go_through_all_stages(made: Avatar, tmp_path: Path):
    run = avatar_networks.write(tmp_path / "run", avatar_networks.model(awake=True))
    what = generate(made, "--networks", run)
    assert list(what.values()) == ["edited", "edited", "fresh", "made", "made", "made"]
    assert freshness.read_stage(made.renders / layout.TURNTABLE)["metrics"]["refined"] is True
    assert set(generate(made).values()) == {"edited", "fresh"}  # the settings stay

    driver = tmp_path / "still.npz"
    codecs.save_params(driver, HeadParams.zeros(toy.head().S, toy.head().E, 3), fps=12.5, head=toy.head())
    pictures = []
    for more in (["--no-refine"], ["--refiner", run / layout.AVATAR_REFINER]):
        result = omega("reenact", made.root, driver, "--size", 128, "--keep-frames", *more)
        assert result.exit_code == 0, result.stderr
        folder = made.reenact / "still"
        assert freshness.read_stage(folder)["metrics"]["refined"] is (len(more) == 2)
        pictures.append(codecs.load_image(folder / layout.frame(1)))
    assert (pictures[0] - pictures[1]).abs().mean() > 1e-3

    what = generate(made, "--networks", "none")
    assert [what[stage] for stage in ("splat-uv", "decode", "render")] == ["made"] * 3
    assert codecs.load_tensors(made.gaussians / layout.VERTEX_GAUSSIANS)["colors"].shape[1] == 3


def test_reenact_refuses_what_is_no_driver(made: Avatar, tmp_path: Path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a film")
    other = HeadParams.zeros(3, 7, 4)
    codecs.save_params(tmp_path / "other.npz", other, fps=25.0)
    for name, says in (
        ("absent.mp4", "no file"),
        ("empty.mp4", "empty"),
        ("text.mp4", "film"),
        ("other.npz", "7 expression"),
    ):
        result = omega("reenact", made.root, tmp_path / name)
        assert result.exit_code == 1 and says in result.stderr, result.stderr
        assert "Traceback" not in result.stderr
    assert not list(made.reenact.glob("*")) and not list(made.reenact.glob(".*"))


def test_batch_goes_on_and_lists_what_failed(tmp_path: Path):
    for name in ("one.png", "two.png"):
        (tmp_path / name).write_bytes(b"\x89PNG not really")
    result = omega("generate", tmp_path / "one.png", tmp_path / "two.png", "-o", tmp_path / "avatars")
    assert result.exit_code == 1
    assert "2 of 2 pictures failed" in result.stderr
    assert "one.png" in result.stderr and "two.png" in result.stderr
    assert not list((tmp_path / "avatars").glob("*/*"))


def film(path: Path) -> list[np.ndarray]:
    import av

    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def fps(path: Path) -> float:
    import av

    with av.open(str(path)) as container:
        return float(container.streams.video[0].average_rate)


def tags(path: Path) -> dict[str, str]:
    import av

    with av.open(str(path)) as container:
        return dict(container.metadata)
