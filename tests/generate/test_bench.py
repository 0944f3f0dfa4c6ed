"""The stage benchmarks run on an avatar's files and leave them alone."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from omega_cli.avatar import codecs, layout
from omega_cli.avatar.layout import Avatar
from omega_cli.generate import bench
from omega_cli.head.assets import load_head


def test_stages_are_timed_from_the_files(toy_avatar: Avatar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omega_cli.kernels.bench_timing._SPENT_S", 0.0)
    monkeypatch.setattr("omega_cli.kernels.bench_timing._LEAST_ROUNDS", 1)
    head = load_head()
    toy_avatar.mesh.mkdir()
    params = codecs.load_params(toy_avatar.source / layout.FLAME)
    codecs.save_params(toy_avatar.mesh / layout.FLAME, params, head=head)
    codecs.save_offsets(toy_avatar.mesh / layout.OFFSETS, 0 * head.v_template)
    before = sorted(toy_avatar.root.rglob("*"))
    rows = list(bench.run(toy_avatar, "cpu", ("deform-flame", "splat-uv")))
    assert [row.op for row in rows] == ["deform-flame", "splat-uv"]
    assert [row.shape for row in rows] == ["6 views, 24 steps", "6 views of 64² → 256², 5 levels"]
    assert all(row.note == f"{1e3 / row.ours_ms:.1f} a second" for row in rows)
    assert sorted(toy_avatar.root.rglob("*")) == before


def test_an_avatar_without_gaussians_is_named(toy_avatar: Avatar) -> None:
    done = CliRunner().invoke(bench.main, [str(toy_avatar.root), "--only", "render"])
    assert done.exit_code == 1 and "is missing" in done.output
