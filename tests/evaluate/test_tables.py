"""Tables from rows: means without the missing, people as the unit of chance, sectors of azimuth."""

from __future__ import annotations

import math

import pytest

from omega_cli.evaluate.tables import (
    changes,
    columns,
    interval,
    markdown,
    mean,
    metric_names,
    regions,
    sector,
    summary,
)


def rows(**changes: float) -> list[dict[str, object]]:
    made: list[dict[str, object]] = []
    for person, level in (("a", 20.0), ("b", 24.0), ("c", 28.0)):
        for camera, azimuth in (("f", 0.0), ("l", 90.0), ("back", -179.0)):
            made.append(
                {"identity": person, "sequence": "s", "frame": 0, "camera": camera, "azimuth": azimuth,
                 "elevation": 0.0, "psnr": level - abs(azimuth) / 30, "lpips_alex": 0.1}
            )  # fmt: skip
    made[0].update(changes)
    return made


def test_means_leave_out_what_has_no_value() -> None:
    assert mean(rows(psnr=math.nan), "psnr") == pytest.approx((sum(r["psnr"] for r in rows()) - 20) / 8)
    assert math.isnan(mean(rows(), "csim"))
    assert metric_names(rows()) == ["psnr", "lpips_alex"]


def test_intervals_draw_people_not_pictures() -> None:
    low, high = interval(rows(), "psnr")
    assert 20 - 9 < low < mean(rows(), "psnr") < high < 28
    assert interval(rows(), "lpips_alex") == pytest.approx((0.1, 0.1))
    assert interval(rows(), "psnr") == interval(rows(), "psnr")
    one = [r for r in rows() if r["identity"] == "a"]
    assert interval(one, "psnr") == pytest.approx((mean(one, "psnr"),) * 2)


def test_sectors_wrap_around() -> None:
    names = [sector(a) for a in (0, 22.4, -22.6, 45, 90, -90, 300, 112.6, 180, -180, 179.9)]
    assert names == ["front", "front", "±45", "±45", "±90", "±90", "±45", "back", "back", "back", "back"]


def test_summary_and_table_say_the_same() -> None:
    found = summary(rows(psnr=math.inf))
    assert found["pictures"] == 9 and found["without_value"] == {"psnr": 1, "lpips_alex": 0}
    assert found["by_sector"]["back"]["pictures"] == 3 and found["driving"] is None  # type: ignore[index]
    text = markdown({"full": rows()}, {}, "nersemble")
    assert text.splitlines()[0] == "|  | psnr ↑ | lpips_alex ↓ |"
    assert "| paper, Tab. 2 | 23.22 | 0.1435 |" in text and "| full, ±90 | 3 |" in text
    assert "paper" not in markdown({"full": rows()}, {}, "valid")


def test_the_head_comes_first_and_the_rest_by_region() -> None:
    made = [r | {"head.psnr": 30.0, "csim_sface": 0.5} for r in rows()]
    made[0]["hair.psnr"] = 12.0  # one picture shows hair
    assert regions(made) == ["head", "hair"]
    assert columns(made, "head") == {"psnr": "head.psnr"} and "head.psnr" not in columns(made, "")
    driven = [{"identity": "a", "aed": 0.1, "apd": 0.2, "akd": None}, {"identity": "b", "aed": 0.3}]
    text = markdown({"full": made}, {"full": driven}, "valid")
    lines = text.splitlines()
    assert lines[2] == "|  | psnr ↑ | lpips_alex ↓ | csim_sface ↑ | aed ↓ | apd ↓ | akd ↓ |"
    assert lines[4].startswith("| full | 30.00 (30.00 to 30.00) |") and lines[4].endswith("| – (– to –) |")
    assert "| full, head | 9 | 30.00 |" in text and "| full, hair | 1 | 12.00 |" in text
    found = summary(made, driven)["driving"]
    assert found["mean"] == {"aed": 0.2, "apd": 0.2, "akd": None} and found["lost"] == 0  # type: ignore[index]


def test_a_change_is_measured_on_the_same_pictures() -> None:
    """One dB less everywhere is exactly that, however people differ; pictures without a value drop out."""
    full = [r | {"head.psnr": r["psnr"]} for r in rows()]
    worse = [r | {"head.psnr": float(r["psnr"]) - 1} for r in rows()]  # type: ignore[arg-type]
    worse[0]["head.psnr"] = None
    found = changes(worse, full, "head.psnr")
    assert len(found) == 8 and {r["head.psnr"] for r in found} == {-1.0}
    text = markdown({"full": full, "no hair": worse}, {}, "valid")
    assert "| no hair | -1.0000 (-1.0000 to -1.0000) |" in text
    assert "on the same pictures" not in markdown({"full": full}, {}, "valid")
