"""evaluate, files in, files out: one avatar a source picture, one row a target camera, then the tables.

What is finished is a file: an avatar folder and `rows.json` for each instant and variant under
`people/<identity>/<sequence>/<frame>/`. A second run goes on from there. An instant that fails (no face, a
stage that refuses) is a line in summary.json's "failed", never a stop.

Every process computes with one thread, so that the result does not depend on how many there are: sums of
several threads differ in their last bits.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import multiprocessing
import multiprocessing.util
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

import omega_cli
from omega_cli.avatar import codecs, layout
from omega_cli.console import NullReport, Report
from omega_cli.decode.checkpoint import DECODER
from omega_cli.errors import OmegaError
from omega_cli.evaluate import instant, meter, networks, report_page, tables
from omega_cli.evaluate import protocol as protocols
from omega_cli.evaluate.config import ABLATIONS, NETWORK_ABLATIONS, EvaluateConfig
from omega_cli.evaluate.frames import Reader, reader
from omega_cli.evaluate.measure import NotPlaced
from omega_cli.evaluate.protocol import Protocol, Sample
from omega_cli.generate import pipeline

PER_IMAGE, TABLE, PAGE = "per_image.csv", "table.md", "index.html"


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
    if config.root and not root.is_dir():
        raise OmegaError(f"{root} is no folder.", "Give --root the data set's folder.")
    data = reader(config.dataset)
    protocol = (
        protocols.load(Path(config.protocol)) if config.protocol else protocols.standard(config.dataset)
    )
    # frames are left out after freezing: fewer of them are then the same ones
    protocol = _frozen(data, root, protocol.restricted(config.identity)).restricted(frames=config.frames)
    if force and output.exists():
        shutil.rmtree(output)
    _file_protocol(output, protocol)
    report.note(protocol.describe())
    for why in networks.absent(protocol).values():
        report.note(why)
    variants = variants_of(config)
    work = _Work(config, protocol, variants, output, device, seed)
    with report.progress("evaluate", protocol.frame_count) as bar:
        failed: dict[str, str] = {}
        for found in (_in_turn if config.workers == 1 else _side_by_side)(work, report, bar.advance):
            failed |= found
            for key, why in found.items():
                report.note(f"{key}: {why}")
    return _finish(output, protocol, variants, failed, seed, report)


def variants_of(config: EvaluateConfig) -> instant.Variants:
    """Settings of each row, stage by stage."""
    networks = pipeline.network_settings(config.networks)
    changes = dict(ABLATIONS) if config.ablations else {"full": {}}
    if config.ablations and config.networks != "none" and (config.networks != "auto" or DECODER.known):
        changes |= NETWORK_ABLATIONS
    return {
        name: {step: networks.get(step, {}) | change.get(step, {}) for step in networks | change}
        for name, change in changes.items()
    }


def _frozen(data: Reader, root: Path, protocol: Protocol) -> Protocol:
    """Samples and drivers by frame number."""
    frozen = data.freeze(root, replace(protocol, driven=()))
    if not protocol.driven:
        return frozen
    drivers = data.freeze(root, replace(protocol, samples=protocol.driven, driven=()))
    return replace(frozen, driven=drivers.samples)


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


class _Work:
    """What every process needs to know; it travels to the workers."""

    def __init__(
        self, config: EvaluateConfig, protocol: Protocol, variants: instant.Variants, output: Path,
        device: str, seed: int,
    ) -> None:  # fmt: skip
        self.config, self.protocol, self.variants = config, protocol, variants
        self.output, self.device, self.seed = output, device, seed

    def opened(self, report: Report) -> contextlib.AbstractContextManager[instant.Bench]:
        data = reader(self.config.dataset)
        return instant.opened(self.config, data, self.protocol, self.variants, self.device, self.seed, report)


def _in_turn(work: _Work, report: Report, advance: Callable[[], None]) -> Iterator[dict[str, str]]:
    with _one_thread(), work.opened(report) as bench:
        for sample in work.protocol.samples:
            yield from _sample(bench, work.output, sample, advance)


def _side_by_side(work: _Work, report: Report, advance: Callable[[int], None]) -> Iterator[dict[str, str]]:
    """The same by `workers` processes, a recording at a time; spawned: threads do not survive a fork."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(work.config.workers, spawn, _begin, (work,)) as pool:
        running = {pool.submit(_recording, sample): sample for sample in work.protocol.samples}
        try:
            for done in as_completed(running):
                yield done.result()
                advance(len(running[done].frames))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_own: tuple[_Work, instant.Bench] | None = None  # of a worker process, for as long as it lives


def _begin(work: _Work) -> None:
    global _own
    stack = contextlib.ExitStack()
    stack.enter_context(_one_thread())
    bench = stack.enter_context(work.opened(NullReport()))
    multiprocessing.util.Finalize(None, stack.close, exitpriority=10)
    _own = work, bench


def _recording(sample: Sample) -> dict[str, str]:
    assert _own is not None
    failed: dict[str, str] = {}
    for found in _sample(_own[1], _own[0].output, sample, lambda: None):
        failed |= found
    return failed


def _sample(
    bench: instant.Bench, output: Path, sample: Sample, advance: Callable[[], None]
) -> Iterator[dict[str, str]]:
    """The instants of one recording; after each what failed of it: {key: why}."""
    for frame in bench.data.read(bench.root, replace(bench.protocol, samples=(sample,), driven=())):
        try:
            yield instant.run(bench, frame, output)
        except (OmegaError, NotPlaced) as error:
            yield {frame.key: getattr(error, "message", str(error))}
        meter.give_back()
        advance()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    torch_threads, cv_threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(torch_threads)
        cv2.setNumThreads(cv_threads)


# --- results ----------------------------------------------------------------------------------


def _documents(output: Path) -> Iterator[dict[str, Any]]:
    for path in sorted((output / "people").rglob(instant.ROWS)):
        with contextlib.suppress(ValueError):
            yield json.loads(path.read_text()) | {"folder": str(path.parent.relative_to(output))}


def _finish(
    output: Path, protocol: Protocol, variants: Mapping[str, Any], failed: Mapping[str, str], seed: int,
    report: Report,
) -> Path:  # fmt: skip
    """per_image.csv, summary.json, table.md and index.html of all rows that are there."""
    documents = list(_documents(output))
    rows, driven = ({name: [] for name in variants} for _ in range(2))
    for document in documents:
        for found, part in ((rows, "rows"), (driven, "driven")):
            for row in document[part]:
                found.get(row["variant"], []).append(row)
    if not any(rows.values()):
        lines = "\n".join(f"  {key}: {why}" for key, why in failed.items())
        raise OmegaError(f"Nothing could be measured:\n{lines}" if lines else "Nothing could be measured.")
    rows = {name: part for name, part in rows.items() if part}
    everything = [row for part in rows.values() for row in part]
    text = io.StringIO()
    names = ["variant", "identity", "sequence", "frame", "camera", "azimuth", "elevation"]
    writer = csv.DictWriter(text, [*names, *tables.metric_names(everything)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(everything)
    (output / PER_IMAGE).write_text(text.getvalue())
    trained = {d["rows"][0]["identity"]: d["trained_on"] for d in documents if d["trained_on"]}
    for identity, files in trained.items():
        report.warn(f"{identity} was in the training set of {', '.join(files)}: no fair measurement.")
    summary = {
        "protocol": protocol.name,
        "omega": omega_cli.__version__,
        "variants": {name: tables.summary(part, driven[name], seed) for name, part in rows.items()},
        "placed_within_mm": round(float(np.mean([d["placed_within_mm"] for d in documents])), 3),
        "parts": _parts(documents),
        "missing_pictures": sum(
            len(d["missing_cameras"]) for d in documents if d["rows"][0]["variant"] == "full"
        ),
        "contaminated": trained,
        "failed": dict(failed),
    }
    codecs.save_json(output / layout.EVALUATED_SUMMARY, summary)
    table = tables.markdown(rows, driven, protocol.dataset, seed)
    for identity, files in trained.items():
        table += f"\n{identity} was in the training set of {', '.join(files)}.\n"
    if failed:
        table += f"\n{len(failed)} failed; see {layout.EVALUATED_SUMMARY}.\n"
    (output / TABLE).write_text(table)
    report_page.save_page(output / PAGE, protocol.describe(), table, documents, failed)
    return output / TABLE


def _parts(documents: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean seconds and largest memory (MB) of each part of the work, over the full avatars that were made."""
    made = [d["parts"] for d in documents if d["rows"] and d["rows"][0]["variant"] == "full"]
    names = dict.fromkeys(name for parts in made for name in parts)
    return {
        name: {
            "seconds": round(float(np.mean([p[name]["seconds"] for p in made if name in p])), 3),
            "peak_mb": max(p[name]["peak_mb"] for p in made if name in p),
        }
        for name in names
    }
