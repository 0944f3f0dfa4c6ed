"""One dataclass is the flag, the default, the check and the record."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click
import pytest
from click.testing import CliRunner

from omega_cli.cli import LazyGroup
from omega_cli.options import common_options, config_options, opt


@dataclass(frozen=True)
class ToyConfig:
    uv_size: int = opt(256, "UV map side, texels.")
    splat: Literal["bilinear", "nearest"] = opt("bilinear", "Pixel-to-texel assignment (Tab. 3).")
    keep_views: bool = opt(False, "Keep each view's sums.")
    limit: float | None = opt(None, "Upper bound.")
    names: tuple[str, ...] = opt((), "Several.")
    span: tuple[float, float] = opt((0.0, 1.0), "From, to.")
    table: Path | None = opt(None, "A file.")

    def __post_init__(self) -> None:
        if self.uv_size < 1:
            raise ValueError(f"--uv-size must be positive, got {self.uv_size}")


@click.command("toy")
@click.argument("avatar")
@config_options(ToyConfig)
@common_options
def toy(avatar, config, device, seed, report, force):
    """Help."""
    return {"avatar": avatar, "config": vars(config), "device": device, "seed": seed, "force": force}


def run(*arguments: object, code: int = 0) -> dict:
    result = CliRunner().invoke(toy, ["a", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if code == 0 else {"error": result.stderr}


def test_defaults_are_the_dataclass() -> None:
    given = run()
    assert given["config"] == json.loads(json.dumps(vars(ToyConfig())))
    assert (given["seed"], given["force"], given["device"]) == (0, False, "cpu")


def test_each_kind_of_flag() -> None:
    given = run("--uv-size", 64, "--splat", "nearest", "--keep-views", "--limit", 0.5, "--names", "a",
                "--names", "b", "--span", 2, 3, "--table", "x.npz", "--seed", 7, "--force")  # fmt: skip
    assert given["config"] == {
        "uv_size": 64, "splat": "nearest", "keep_views": True, "limit": 0.5, "names": ["a", "b"],
        "span": [2.0, 3.0], "table": "x.npz",
    }  # fmt: skip
    assert (given["seed"], given["force"]) == (7, True)


def test_nonsense_is_a_usage_error_before_torch() -> None:
    assert "--uv-size must be positive, got 0" in run("--uv-size", 0, code=2)["error"]
    assert "nope" in run("--splat", "nope", code=2)["error"]


def test_help_shows_defaults_and_texts() -> None:
    text = CliRunner().invoke(toy, ["--help"]).output
    assert "UV map side, texels." in text and "[default: 256]" in text
    assert "--keep-views / --no-keep-views" in text and "[bilinear|nearest]" in text


def record(path: Path, stage: str = "toy", **params: object) -> Path:
    path.write_text(json.dumps({"stage": stage, "seed": 5, "params": params}))
    return path


def test_params_repeat_a_run_and_the_command_line_wins(tmp_path: Path) -> None:
    recorded = ToyConfig(64, "nearest", True, 0.25, ("a",), (2.0, 3.0))
    path = record(tmp_path / "stage.json", **{k: v for k, v in vars(recorded).items()})
    given = run("--params", path)
    assert given["config"] == json.loads(json.dumps(vars(recorded))) and given["seed"] == 5
    given = run("--params", path, "--uv-size", 128, "--seed", 0, "--no-keep-views")
    assert (given["config"]["uv_size"], given["seed"], given["config"]["keep_views"]) == (128, 0, False)
    assert given["config"]["splat"] == "nearest"


def test_params_fills_what_an_older_record_lacks(tmp_path: Path) -> None:
    given = run("--params", record(tmp_path / "stage.json", uv_size=32))
    assert given["config"] == json.loads(json.dumps(vars(ToyConfig(uv_size=32))))


def test_params_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    group = LazyGroup("omega", table={"toy": (f"{__name__}:toy", "Toy."), "decode": (f"{__name__}:toy", "")})
    group.get_command = lambda ctx, name: toy if name in ("toy", "decode") else None  # type: ignore[method-assign]

    def fails(path: Path) -> str:
        result = CliRunner().invoke(group, ["toy", "a", "--params", str(path)])
        assert result.exit_code == 1 and "Traceback" not in result.output
        return result.stderr

    assert "setting that this version does not know: speed" in fails(record(tmp_path / "a.json", speed=1))
    assert "records a run of decode, not of toy" in fails(record(tmp_path / "b.json", "decode"))
    (tmp_path / "c.json").write_text("{")
    assert "c.json is not a stage.json that can be read" in fails(tmp_path / "c.json")
    assert "is not a stage.json that can be read" in fails(tmp_path / "none.json")


def test_json_of_a_result_carries_its_record(tmp_path: Path) -> None:
    recorded = {"stage": "toy", "seconds": 1.5, "metrics": {"psnr": 30}}
    (tmp_path / "stage.json").write_text(json.dumps(recorded))

    @click.command()
    @common_options
    def command():
        return tmp_path

    assert CliRunner().invoke(command, []).stdout.strip() == str(tmp_path)
    given = json.loads(CliRunner().invoke(command, ["--json"]).stdout)
    assert given == {"path": str(tmp_path), **recorded}


@pytest.mark.parametrize("flag", ["--device", "--seed", "--force"])
def test_only_wanted_flags_exist(flag: str) -> None:
    @click.command()
    @common_options
    def bare(report):
        return None

    assert flag not in CliRunner().invoke(bare, ["--help"]).output
    assert flag in CliRunner().invoke(toy, ["--help"]).output
