"""What one looks at after a run: a sheet of pairs for each instant, and index.html with the extremes."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from omega_cli.avatar import codecs, layout
from omega_cli.evaluate.measure import Compared

MOST_COLUMNS = 8  # cameras on a sheet, spread over those there are
SHOWN = 192  # px, a picture of a sheet
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem;
  background: Canvas; color: CanvasText; color-scheme: light dark; }
table { border-collapse: collapse; } td, th { padding: .2rem .7rem; border-bottom: 1px solid #8885; }
td { font-variant-numeric: tabular-nums; } pre { overflow-x: auto; } img { max-width: 100%; }
"""


def save_sheet(path: Path, pairs: Sequence[Compared]) -> None:
    """Truth above, render below (made `small`), for up to MOST_COLUMNS cameras by azimuth."""
    from omega_cli.avatar.film import contact_sheet

    ordered = sorted(_one_an_azimuth(pairs), key=lambda pair: float(str(pair.row["azimuth"])))
    count = min(MOST_COLUMNS, len(ordered))
    chosen = [ordered[i * len(ordered) // count] for i in range(count)]
    pictures = [p.truth for p in chosen] + [p.render for p in chosen]
    labels = [f"{p.row['azimuth']}°" for p in chosen]
    labels += [f"{_psnr(p.row):.1f} dB" for p in chosen]
    path.parent.mkdir(parents=True, exist_ok=True)
    codecs.save_image(path, contact_sheet(pictures, count, labels, background=0.0))


def _one_an_azimuth(pairs: Sequence[Compared]) -> list[Compared]:
    """Of cameras above each other (within 10 degrees) the most level one."""
    level: dict[int, Compared] = {}
    for pair in sorted(pairs, key=lambda pair: abs(float(str(pair.row["elevation"])))):
        level.setdefault(round(float(str(pair.row["azimuth"])) / 10) % 36, pair)
    return list(level.values())


def small(image: torch.Tensor) -> torch.Tensor:
    """A picture at the sheet's size."""
    return F.interpolate(image[None], (SHOWN, SHOWN), mode="bilinear", antialias=True, align_corners=False)[0]


def save_page(
    path: Path, protocol: str, table: str, documents: Sequence[Mapping[str, Any]], failed: Mapping[str, str]
) -> None:
    """index.html: the table, the protocol, the sheets of the best, the median and the worst instants."""
    full = [d for d in documents if d["rows"] and d["rows"][0]["variant"] == "full"]
    ranked = sorted(full, key=_mean_psnr, reverse=True)
    shown = {}
    if ranked:
        shown = {"best": ranked[0], "median": ranked[len(ranked) // 2], "worst": ranked[-1]}
    parts = [
        f"<!doctype html><meta charset=utf-8><title>omega evaluate</title><style>{STYLE}</style>",
        "<h1>Evaluation</h1>", _html_tables(table),
    ]  # fmt: skip
    for word, document in shown.items():
        folder = html.escape(document["folder"])
        parts.append(
            f"<h2>{word}: {folder} ({_mean_psnr(document):.2f} dB)</h2>"
            f'<img src="{folder}/{layout.SHEET}" alt="truth above, render below">'
        )
    if failed:
        lines = "\n".join(f"{key}: {why}" for key, why in failed.items())
        parts.append(f"<h2>Failed</h2><pre>{html.escape(lines)}</pre>")
    parts.append(f"<h2>Protocol</h2><pre>{html.escape(protocol)}</pre>")
    path.write_text("\n".join(parts) + "\n")


def _mean_psnr(document: Mapping[str, Any]) -> float:
    values = [_psnr(row) for row in document["rows"]]
    return sum(values) / len(values)


def _psnr(row: Mapping[str, Any]) -> float:
    """The head's, the whole picture's where no region is known; equal pictures have none (100 dB here)."""
    value = row.get("head.psnr", row.get("psnr"))
    return 100.0 if value is None else float(value)


def _html_tables(markdown: str) -> str:
    """The Markdown tables of `tables.markdown` as HTML; other lines as paragraphs."""
    out, inside = [], False
    for line in markdown.splitlines():
        if not line.startswith("|"):
            out += ["</table>"] if inside else []
            out += [f"<p>{html.escape(line)}</p>"] if line else []
            inside = False
            continue
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if all(set(cell) <= {"-", ":"} and cell for cell in cells):
            continue
        kind = "td" if inside else "th"
        out += [] if inside else ["<table>"]
        inside = True
        out.append("<tr>" + "".join(f"<{kind}>{html.escape(c)}</{kind}>" for c in cells) + "</tr>")
    return "\n".join([*out, *(["</table>"] if inside else [])])
