"""evaluate, files in, files out: one avatar a source picture, one row a target camera, then the tables.

What is finished is a file: an avatar folder and `rows.json` for each instant and variant under
`people/<identity>/<sequence>/<frame>/`. A second run goes on from there. An instant that fails (no face, a
stage that refuses) is a line in summary.json's "failed", never a stop.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from omega_cli import weights
from omega_cli.avatar import codecs, folders, layout, record
from omega_cli.console import Report
from omega_cli.errors import OmegaError
from omega_cli.evaluate import measure, report_page, tables
from omega_cli.evaluate import protocol as protocols
from omega_cli.evaluate.config import ABLATIONS, EvaluateConfig
from omega_cli.evaluate.frames import Frame, compose, reader, standard_views
from omega_cli.evaluate.measure import NotPlaced, PictureMetric
from omega_cli.evaluate.protocol import Protocol
from omega_cli.generate import pipeline
from omega_cli.metrics.csim import Csim, cosine, load_csim
from omega_cli.metrics.lpips import load_lpips
from omega_cli.render.stage import load_rig
from omega_cli.track.landmarks import Landmarker
from omega_cli.track.matte import saliency
from omega_cli.track.stage import load_saliency

ROWS = layout.EVALUATED_ROWS
PER_IMAGE, TABLE, PAGE = "per_image.csv", "table.md", "index.html"
CutOut = Callable[[np.ndarray], np.ndarray]
SHOWN = 192  # px, a picture of a sheet


def run(
    config: EvaluateConfig,
    output: Path,
    *,
    device: str = "cpu",
    seed: int = 0,
    report: Report,
    force: bool = False,
) -> Path:
    """Measure, or go on measuring; returns table.md. Raises OmegaError when nothing could be measured."""
    root = Path(config.root)
    if not root.is_dir():
        raise OmegaError(f"{root} is no folder.", "Give --root the data set's folder.")
    data = reader(config.dataset)
    protocol = (
        protocols.load(Path(config.protocol)) if config.protocol else protocols.standard(config.dataset)
    )
    # frames are left out after freezing: fewer of them are then the same ones
    protocol = data.freeze(root, protocol.restricted(config.identity)).restricted(frames=config.frames)
    if force and output.exists():
        shutil.rmtree(output)
    _file_protocol(output, protocol)
    report.note(protocol.describe())
    variants = ABLATIONS if config.ablations else {"full": {}}
    metrics = _metrics(config, protocol, device, report)
    cut_out = functools.partial(saliency, network=load_saliency(report))
    failed: dict[str, str] = {}
    task = weights.resolve("face_landmarker", report).read_bytes()
    with Landmarker(task) as landmarker, report.progress("evaluate", protocol.frame_count) as bar:
        for frame in data.read(root, protocol):
            try:
                _frame(frame, output, protocol, variants, metrics, landmarker, cut_out, device, seed, report)
            except (OmegaError, NotPlaced) as error:
                failed[frame.key] = getattr(error, "message", str(error))
                report.note(f"{frame.key}: {failed[frame.key]}")
            bar.advance()
    return _finish(output, protocol, variants, failed, seed)


def _file_protocol(output: Path, protocol: Protocol) -> None:
    """protocol.json of the run; a folder measured under another protocol is refused, not mixed up."""
    path, text = output / layout.EVALUATED_PROTOCOL, protocols.dumps(protocol)
    if path.exists() and path.read_text() != text:
        raise OmegaError(
            f"{output}/ was measured under another protocol.",
            "Choose another -o, or start again with --force.",
        )
    output.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _metrics(
    config: EvaluateConfig, protocol: Protocol, device: str, report: Report
) -> dict[str, PictureMetric]:
    def moved(network: Callable[..., torch.Tensor]) -> PictureMetric:
        def metric(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                return network(a.to(device), b.to(device)).cpu()

        return metric

    nets = [net for net in ("alex", "vgg") if net in config.lpips]
    found = {f"lpips_{net}": moved(load_lpips(net, device, report)) for net in nets}  # type: ignore[arg-type]
    return found | {"csim_sface": _identity(load_csim("sface", report), protocol.no_face == "zero")}


def _identity(csim: Csim, lost_is_zero: bool) -> PictureMetric:
    """CSIM of render and truth; NaN where either shows no face, 0 where only the render does not and the
    protocol wants that."""

    def metric(render: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        drawn, true = csim.embed(render), csim.embed(truth)
        if lost_is_zero and bool(true.isfinite().all()) and not bool(drawn.isfinite().all()):
            return torch.zeros(1)
        return cosine(drawn, true)

    return metric


def _frame(
    frame: Frame, output: Path, protocol: Protocol, variants: Mapping[str, Any],
    metrics: Mapping[str, PictureMetric], landmarker: Landmarker, cut_out: CutOut, device: str, seed: int,
    report: Report,
) -> None:  # fmt: skip
    """All variants of one instant, those with rows left out."""
    home = output / "people" / frame.identity / frame.sequence / f"{frame.frame:06d}"
    missing = [name for name in variants if not (home / _slug(name) / ROWS).exists()]
    if not missing:
        return
    source, targets = standard_views(frame, protocol)
    if protocol.mask == "matte":
        source, *targets = (measure.matted(view, cut_out) for view in (source, *targets))
    seen = measure.sightings([source, *targets], _finder(landmarker))
    for name in dict.fromkeys(["full", *missing]):
        folder = home / _slug(name)
        if (folder / ROWS).exists():
            continue
        seconds = _make(frame, source, home, name, variants[name], protocol, device, seed, report)
        rig = load_rig(layout.Avatar(folder / "avatar"), device)
        with torch.no_grad():
            where, gap = measure.place(rig, seen)
            posed = rig.pose(rig.vertices(rig.params)[0])
            pairs = [measure.compare(posed, where, view, protocol, metrics) for view in targets]
        key = {"identity": frame.identity, "sequence": frame.sequence, "frame": frame.frame}
        rows = [key | _finite(pair.row) | {"variant": name} for pair in pairs]
        report_page.save_sheet(folder / layout.SHEET, pairs, SHOWN)
        document = {"rows": rows, "placed_within_mm": round(1e3 * gap, 2), "seconds": seconds}
        with folders.writing_file(folder / ROWS) as scratch:
            scratch.write_text(json.dumps(document, indent=1))


def _make(
    frame: Frame, source: Any, home: Path, name: str, settings: Mapping[str, Mapping[str, Any]],
    protocol: Protocol, device: str, seed: int, report: Report,
) -> dict[str, float]:  # fmt: skip
    """The avatar of one variant; an ablation starts from a copy of the full one. Seconds by stage."""
    avatar = home / _slug(name) / "avatar"
    picture = home / layout.EVALUATED_SOURCE
    if not picture.exists():
        home.mkdir(parents=True, exist_ok=True)
        codecs.save_image(picture, compose(source.image(), source.mask(), protocol.background))
    if name != "full" and not avatar.exists():
        shutil.copytree(home / "full" / "avatar", avatar)
    first = next((step for step in pipeline.NAMES if step in settings), None)
    began = time.perf_counter()
    done = pipeline.make_avatar(
        record.create_avatar(avatar, picture), picture, settings=settings, from_stage=first,
        until_stage="decode", device=device, seed=seed, report=report,
    )  # fmt: skip
    seconds = {one.name: round(one.seconds, 3) for one in done if one.what == "made"}
    return seconds | {"total": round(time.perf_counter() - began, 3)}


def _finder(landmarker: Landmarker) -> Callable[[np.ndarray], np.ndarray | None]:
    def find(rgb: np.ndarray) -> np.ndarray | None:
        faces = landmarker.detect(rgb)  # one look: the pictures are cropped to one head
        return faces[0].points if faces else None

    return find


def _finite(row: Mapping[str, object]) -> dict[str, object]:
    """A metric without a value (no face; equal pictures have no PSNR) is null, which JSON knows."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def _slug(name: str) -> str:
    return name.lower().replace(" ", "-")


def _documents(output: Path) -> Iterator[dict[str, Any]]:
    for path in sorted((output / "people").rglob(ROWS)):
        with contextlib.suppress(ValueError):
            yield json.loads(path.read_text()) | {"folder": str(path.parent.relative_to(output))}


def _finish(
    output: Path, protocol: Protocol, variants: Mapping[str, Any], failed: Mapping[str, str], seed: int
) -> Path:
    """per_image.csv, summary.json, table.md and index.html of all rows that are there."""
    documents = list(_documents(output))
    rows = {name: [] for name in variants}
    for document in documents:
        for row in document["rows"]:
            if row["variant"] in rows:
                rows[row["variant"]].append(row)
    if not any(rows.values()):
        lines = "\n".join(f"  {key}: {why}" for key, why in failed.items())
        raise OmegaError(f"Nothing could be measured:\n{lines}" if lines else "Nothing could be measured.")
    everything = [row for part in rows.values() for row in part]
    text = io.StringIO()
    names = ["variant", "identity", "sequence", "frame", "camera", "azimuth", "elevation"]
    writer = csv.DictWriter(text, [*names, *tables.metric_names(everything)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(everything)
    (output / PER_IMAGE).write_text(text.getvalue())
    summary = {
        "protocol": protocol.name,
        "variants": {name: tables.summary(part, seed) for name, part in rows.items() if part},
        "placed_within_mm": round(float(np.mean([d["placed_within_mm"] for d in documents])), 3),
        "seconds": _mean_seconds(documents),
        "failed": dict(failed),
    }
    codecs.save_json(output / layout.EVALUATED_SUMMARY, summary)
    table = tables.markdown({n: part for n, part in rows.items() if part}, protocol.dataset, seed)
    (output / TABLE).write_text(table)
    report_page.save_page(output / PAGE, protocol.describe(), table, documents, failed)
    return output / TABLE


def _mean_seconds(documents: list[dict[str, Any]]) -> dict[str, float]:
    """Mean seconds of each stage over the full avatars that were made."""
    made = [d["seconds"] for d in documents if d["rows"] and d["rows"][0]["variant"] == "full"]
    names = dict.fromkeys(name for seconds in made for name in seconds)
    return {n: round(float(np.mean([s[n] for s in made if n in s])), 3) for n in names}
