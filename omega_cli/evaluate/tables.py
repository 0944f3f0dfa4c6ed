"""From one row per picture to the tables that are read: means, intervals, azimuths, Tab. 2 and 3."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

PAPER = {
    "nersemble": {
        "psnr": 23.221,
        "ssim": 0.8051,
        "lpips_alex": 0.1435,
        "csim_arcface": 0.6714,
        "dreamsim": 0.0950,
    },
    "ava256": {
        "psnr": 23.244,
        "ssim": 0.7734,
        "lpips_alex": 0.1592,
        "csim_arcface": 0.5403,
        "dreamsim": 0.1651,
    },
}
"""Tab. 2, the paper's own rows. Its LPIPS network is not stated; alex is the field's default."""

LOWER_IS_BETTER = ("lpips", "dreamsim", "holes", "aed", "apd", "akd")
DRIVING = ("aed", "apd", "akd")
SECTORS = (("front", 0.0, 22.5), ("±45", 22.5, 67.5), ("±90", 67.5, 112.5), ("back", 112.5, 180.1))
RESAMPLES = 1000

Row = Mapping[str, object]


def metric_names(rows: Sequence[Row]) -> list[str]:
    """Columns that hold numbers of a metric, in the order in which they first appear."""
    keys = ("identity", "sequence", "frame", "camera", "azimuth", "elevation", "variant",
            "driver_sequence", "driver_frame")  # fmt: skip
    return list(dict.fromkeys(name for row in rows for name in row if name not in keys))


def regions(rows: Sequence[Row]) -> list[str]:
    """Regions that some picture has, the head first."""
    found = [name.split(".")[0] for name in metric_names(rows) if "." in name]
    return sorted(dict.fromkeys(found), key=lambda name: name != "head")


def columns(rows: Sequence[Row], region: str) -> dict[str, str]:
    """Metric to column of one region ("" is the whole picture)."""
    prefix = f"{region}." if region else ""
    names = [n for n in metric_names(rows) if n.startswith(prefix) and "." not in n.removeprefix(prefix)]
    return {name.removeprefix(prefix): name for name in names}


def mean(rows: Sequence[Row], name: str) -> float:
    """Mean over pictures, those without a value (NaN, none) left out; NaN when nothing is left."""
    values = _values(rows, name)
    return float(values.mean()) if len(values) else math.nan


def interval(rows: Sequence[Row], name: str, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over people: whole identities are drawn, for a person's pictures
    are no independent samples."""
    people = sorted({str(row["identity"]) for row in rows})
    if not people:
        return math.nan, math.nan
    sums = np.array([_values([r for r in rows if r["identity"] == p], name).sum() for p in people])
    counts = np.array([len(_values([r for r in rows if r["identity"] == p], name)) for p in people])
    draws = np.random.default_rng(seed).integers(len(people), size=(RESAMPLES, len(people)))
    total = counts[draws].sum(1)
    if not total.any():
        return math.nan, math.nan
    means = sums[draws].sum(1)[total > 0] / total[total > 0]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def changes(rows: Sequence[Row], full: Sequence[Row], name: str) -> list[Row]:
    """What a variant changes of `name`, picture by picture, where both have a value."""
    keys = ("identity", "sequence", "frame", "camera")
    before = {tuple(row.get(k) for k in keys): row.get(name) for row in full}
    found = []
    for row in rows:
        was, now = before.get(tuple(row.get(k) for k in keys)), row.get(name)
        if isinstance(was, (int, float)) and isinstance(now, (int, float)):
            found.append({"identity": row["identity"], name: now - was})
    return found


def _values(rows: Sequence[Row], name: str) -> np.ndarray:
    numbers = [float(row[name]) for row in rows if isinstance(row.get(name), (int, float))]  # type: ignore[arg-type]
    return np.array([n for n in numbers if math.isfinite(n)])


def sector(azimuth: float) -> str:
    """Which of SECTORS a camera at `azimuth` degrees belongs to."""
    away = abs((azimuth + 180) % 360 - 180)
    return next(name for name, low, high in SECTORS if low <= away < high)


def summary(rows: Sequence[Row], driven: Sequence[Row] = (), seed: int = 0) -> dict[str, object]:
    """Everything that summary.json says about one variant: overall with intervals, by sector, by person, and
    of `driven` frames the driving accuracy. Metrics of a region are called like "head.psnr"."""
    names = metric_names(rows)

    def means(part: Sequence[Row]) -> dict[str, float | None]:
        return {name: _rounded(mean(part, name)) for name in names}

    by_sector = {s: [r for r in rows if sector(float(r["azimuth"])) == s] for s, *_ in SECTORS}  # type: ignore[arg-type]
    people = sorted({str(row["identity"]) for row in rows})
    return {
        "pictures": len(rows),
        "identities": len(people),
        "mean": means(rows),
        "interval_95": {n: [_rounded(v) for v in interval(rows, n, seed)] for n in names},
        "by_sector": {s: {"pictures": len(part), **means(part)} for s, part in by_sector.items() if part},
        "by_identity": {p: means([r for r in rows if r["identity"] == p]) for p in people},
        "without_value": {n: len(rows) - len(_values(rows, n)) for n in names},
        "driving": {
            "frames": len(driven),
            "mean": {n: _rounded(mean(driven, n)) for n in DRIVING},
            "interval_95": {n: [_rounded(v) for v in interval(driven, n, seed)] for n in DRIVING},
            "lost": len(driven) - len(_values(driven, DRIVING[0])),
        }
        if driven
        else None,
    }


def _rounded(value: float) -> float | None:
    return None if not math.isfinite(value) else round(value, 5)


def markdown(
    variants: Mapping[str, Sequence[Row]], driven: Mapping[str, Sequence[Row]], dataset: str, seed: int = 0
) -> str:
    """table.md: the head (one line a variant), the whole picture (with the paper's own row where there is
    one), each region, then the sectors."""
    everything = [row for rows in variants.values() for row in rows]
    known = regions(everything)
    main = _main_columns(everything, "head" if "head" in known else "")
    parts = []
    if "head" in known:
        moved = [row for rows in driven.values() for row in rows]
        parts += ["The head (clothes left out), 95 % intervals over people:", ""]
        parts += _variant_table(variants, main, driven if moved else {}, seed)
        if len(variants) > 1:
            parts += ["", "What leaving it out changes, on the same pictures:", ""]
            parts += _change_table(variants, main, seed)
        parts += ["", "The whole picture:", ""]
    whole = columns(everything, "")
    parts += _variant_table(variants, whole, {}, seed, PAPER.get(dataset))
    if len(known) > 1:
        parts += ["", "By region:", "", *_region_table(variants, known)]
    parts += ["", "By azimuth (0: the face is seen from the front):", "", *_sector_table(variants, main)]
    return "\n".join(parts) + "\n"


def _main_columns(rows: Sequence[Row], region: str) -> dict[str, str]:
    """The region's metrics, and those of the whole picture that have no region (identity)."""
    own = columns(rows, region)
    return own | {name: name for name in columns(rows, "") if name not in own}


def _variant_table(
    variants: Mapping[str, Sequence[Row]], names: Mapping[str, str], driven: Mapping[str, Sequence[Row]],
    seed: int, paper: Mapping[str, float] | None = None,
) -> list[str]:  # fmt: skip
    titles = [*names, *(DRIVING if driven else ())]
    lines = _header(["", *map(_titled, titles)])
    for variant, rows in variants.items():
        cells = [_with_interval(rows, column, seed) for column in names.values()]
        cells += [_with_interval(driven[variant], name, seed) for name in DRIVING] if driven else []
        lines.append(_line([variant, *cells]))
    if paper:
        lines.append(_line(["paper, Tab. 2", *(_shown(paper.get(name, math.nan)) for name in titles)]))
    return lines


def _change_table(variants: Mapping[str, Sequence[Row]], names: Mapping[str, str], seed: int) -> list[str]:
    (_, full), *others = variants.items()
    lines = _header(["", *map(_titled, names)])
    for variant, rows in others:
        cells = []
        for name in names.values():
            found = changes(rows, full, name)
            low, high = interval(found, name, seed)
            cells.append(f"{mean(found, name):+.4f} ({low:+.4f} to {high:+.4f})")
        lines.append(_line([variant, *cells]))
    return lines


def _region_table(variants: Mapping[str, Sequence[Row]], known: Sequence[str]) -> list[str]:
    everything = [row for rows in variants.values() for row in rows]
    names = list(dict.fromkeys(name for region in known for name in columns(everything, region)))
    lines = _header(["", "pictures", *map(_titled, names)])
    for variant, rows in variants.items():
        for region in known:
            there = [row for row in rows if f"{region}.{names[0]}" in row]
            if there:
                values = [_shown(mean(there, f"{region}.{name}")) for name in names]
                lines.append(_line([f"{variant}, {region}", str(len(there)), *values]))
    return lines


def _sector_table(variants: Mapping[str, Sequence[Row]], names: Mapping[str, str]) -> list[str]:
    lines = _header(["", "pictures", *map(_titled, names)])
    for variant, rows in variants.items():
        for name, *_ in SECTORS:
            part = [row for row in rows if sector(float(row["azimuth"])) == name]  # type: ignore[arg-type]
            if part:
                values = [_shown(mean(part, column)) for column in names.values()]
                lines.append(_line([f"{variant}, {name}", str(len(part)), *values]))
    return lines


def _header(titles: Sequence[str]) -> list[str]:
    return [_line(titles), _line(["---", *("--:" for _ in titles[1:])])]


def _with_interval(rows: Sequence[Row], name: str, seed: int) -> str:
    low, high = interval(rows, name, seed)
    return f"{_shown(mean(rows, name))} ({_shown(low)} to {_shown(high)})"


def _titled(name: str) -> str:
    arrow = "↓" if name.startswith(LOWER_IS_BETTER) else "↑"
    return f"{name} {arrow}"


def _shown(value: float) -> str:
    return "–" if not math.isfinite(value) else f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
