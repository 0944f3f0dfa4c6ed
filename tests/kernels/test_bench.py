"""The benchmarks run, compare like with like, and write what they print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from omega_cli.kernels import bench, bench_cases
from omega_cli.kernels.bench_cases import Sizes
from omega_cli.kernels.bench_timing import Row, table, write_json
from omega_cli.kernels.uv_splat import uv_splat, uv_splat_pyramid

TINY = Sizes(
    splats=((2, 4, 3, 8),),
    pyramids=((1, 6, 2, 16),),
    levels=3,
    gaussians=(3000, 24),
    reference_gaussians=(1000, 16),
    channels=(2,),
    triangles=40,
    mesh_views=2,
    mesh_side=16,
    posed=2000,
)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omega_cli.kernels.bench_timing._SPENT_S", 0.0)
    monkeypatch.setattr("omega_cli.kernels.bench_timing._LEAST_ROUNDS", 1)


def test_every_section_gives_its_rows() -> None:
    rows = list(bench.run(list(bench_cases.SECTIONS), "cpu", TINY))
    assert [(row.op, row.shape) for row in rows] == [
        ("uv_splat", "2 × 4² × 3 → 8², smooth"),
        ("uv_splat backward", "2 × 4² × 3 → 8², smooth"),
        ("uv_splat", "2 × 4² × 3 → 8², random"),
        ("uv_splat backward", "2 × 4² × 3 → 8², random"),
        ("finest level", "1 × 6² × 2 → 16², smooth"),
        ("uv_splat_pyramid", "1 × 6² × 2 → 16², smooth, 3 levels + 2"),
        ("finest level", "1 × 6² × 2 → 16², random"),
        ("uv_splat_pyramid", "1 × 6² × 2 → 16², random, 3 levels + 2"),
        ("gaussians (native)", "3 k, 24², 2 channels"),
        ("gaussians (native) forward + backward", "3 k, 24², 2 channels"),
        ("gaussians (native)", "1 k, 16², 2 channels"),
        ("gaussians (native) forward + backward", "1 k, 16², 2 channels"),
        ("rasterize_mesh", "2 × 36 triangles, 16²"),
        ("gaussian_pose", "2 k"),
    ]
    for row in rows:
        assert row.ours_ms > 0 and row.floor_ms is None
        compared = row.op != "finest level" and not row.shape.startswith("3 k")
        assert (row.ratio is not None) == compared == bool(row.way)
        if row.other_ms is not None and row.ratio is not None:
            assert row.ratio == pytest.approx(row.other_ms / row.ours_ms)
        assert row.note.endswith("× the finest level") == (row.op == "uv_splat_pyramid")


def test_the_other_way_does_the_same_work() -> None:
    values = torch.randn(2, 16, 3, generator=torch.Generator().manual_seed(0))
    uv = bench_cases.random_uv(2, 4, "cpu") * 1.4 - 0.2
    ours = uv_splat(values, uv, (8, 9)).permute(0, 2, 3, 1)
    torch.testing.assert_close(bench_cases.index_add_splat(values, uv, (8, 9)), ours, atol=1e-5, rtol=0)
    maps = uv_splat_pyramid(values[..., :1], uv, (8, 8), 3, extra=values[..., 1:])
    for other, (sums, extras) in zip(
        bench_cases.index_add_pyramid(values[..., :1], values[..., 1:], uv, 8, 3), maps, strict=True
    ):
        assert extras is not None
        torch.testing.assert_close(other, torch.cat([sums, extras], 1).permute(0, 2, 3, 1), atol=1e-5, rtol=0)


def test_scenes_are_what_they_say() -> None:
    clip, faces = bench_cases.ball_in_clip(10_000, 1, 512, "cpu")
    assert len(faces) == 10_000 and clip.shape == (1, 5100, 4)
    uv = bench_cases.view_uv(6, 64, "cpu")
    assert ((uv > 0) & (uv < 1)).all(-1).float().mean() > 0.95
    step = (uv.reshape(6, 64, 64, 2).diff(dim=2).norm(dim=-1) * 64).mean()
    assert 0.5 < step < 1  # a pixel moves by less than a texel of a map as large


def test_table_aligns_and_leaves_out_what_nobody_measured() -> None:
    rows = [Row("a", "1 × 2", 0.01234, "b", 123.4, 10_000.0), Row("longer", "3", 4.567)]
    assert table(rows).splitlines() == [
        "| op     | shape | ours ms | the other way |  ms |  ratio |",
        "| ------ | ----- | ------: | ------------- | --: | -----: |",
        "| a      | 1 × 2 |   0.012 | b             | 123 | 10000× |",
        "| longer | 3     |    4.57 |               |     |        |",
    ]
    on_a_gpu = table([Row("a", "s", 0.5, floor_ms=0.25, over_floor=2.0, note="n")]).splitlines()
    assert on_a_gpu[0] == "| op | shape | ours ms | floor ms | ours/floor |   |"
    assert on_a_gpu[2] == "| a  | s     |   0.500 |    0.250 |      2.00× | n |"


def test_json_holds_the_machine_and_every_row(tmp_path: Path) -> None:
    rows = [Row("a", "s", 1.5, "b", 3.0, 2.0, note="n"), Row("c", "t", 0.25)]
    write_json(tmp_path / "bench.json", {"device": "cpu", "threads": 2}, rows)
    found = json.loads((tmp_path / "bench.json").read_text())
    assert found["machine"] == {"device": "cpu", "threads": 2}
    assert [Row(**row) for row in found["rows"]] == rows


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bench_cases.SIZES, "cpu", TINY)
    out = tmp_path / "b.json"
    done = CliRunner().invoke(bench.main, ["--only", "mesh,pose", "--json", str(out)])
    assert done.exit_code == 0, done.output
    header, *lines = done.stdout.splitlines()
    assert header.startswith("device cpu, name ") and f"torch {torch.__version__}" in header
    assert [line.split("|")[1].strip() for line in lines] == [
        "op", "-" * len("rasterize_mesh"), "rasterize_mesh", "gaussian_pose",
    ]  # fmt: skip
    assert [row["op"] for row in json.loads(out.read_text())["rows"]] == ["rasterize_mesh", "gaussian_pose"]
    wrong = CliRunner().invoke(bench.main, ["--only", "mesh,texture"])
    assert wrong.exit_code == 2 and "no section texture" in wrong.output
