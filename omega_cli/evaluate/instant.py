"""One instant of one person: its avatars (a variant each), compared with every other camera's picture."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from omega_cli import weights
from omega_cli.avatar import codecs, folders, layout, record
from omega_cli.console import Report
from omega_cli.errors import OmegaError
from omega_cli.evaluate import contamination, driving, measure, networks, report_page
from omega_cli.evaluate.config import EvaluateConfig
from omega_cli.evaluate.frames import Frame, Reader, standard_views
from omega_cli.evaluate.measure import CutOut, Find, Networks, Truth
from omega_cli.evaluate.meter import Meter
from omega_cli.evaluate.protocol import Protocol
from omega_cli.generate import pipeline
from omega_cli.head.assets import load_head
from omega_cli.head.model import HeadModel
from omega_cli.render.config import RenderConfig
from omega_cli.render.refiner import Refiner
from omega_cli.render.rig import Rig
from omega_cli.render.stage import chosen_refiner, load_rig
from omega_cli.track.config import TrackConfig
from omega_cli.track.landmarks import Landmarker
from omega_cli.track.matte import saliency
from omega_cli.track.portrait import Networks as TrackerNetworks
from omega_cli.track.stage import load_parser, load_saliency
from omega_cli.weights.network_file import Loaded

ROWS = layout.EVALUATED_ROWS
Variants = Mapping[str, Mapping[str, Mapping[str, Any]]]


@dataclass
class Bench:
    """What measuring needs, loaded once a process. `drivers` keeps those of the last identity."""

    root: Path
    data: Reader
    protocol: Protocol
    variants: Variants
    networks: Networks
    find: Find
    cut_out: CutOut
    tracker: TrackerNetworks
    head: HeadModel
    device: str
    seed: int
    drivers: dict[str, list[driving.Driver]] = field(default_factory=dict)


@contextlib.contextmanager
def opened(
    config: EvaluateConfig, data: Reader, protocol: Protocol, variants: Variants, device: str, seed: int,
    report: Report,
) -> Iterator[Bench]:  # fmt: skip
    """A bench, and its landmarker closed afterwards."""
    salient = load_saliency(report)
    parser = load_parser(TrackConfig().parser, report)
    with Landmarker(weights.resolve("face_landmarker", report).read_bytes()) as landmarker:
        yield Bench(
            Path(config.root), data, protocol, variants,
            networks.load(protocol, config.lpips, device, report),
            _finder(landmarker), functools.partial(saliency, network=salient),
            TrackerNetworks(landmarker, parser, salient), load_head(), device, seed,
        )  # fmt: skip


def home_of(output: Path, frame: Frame) -> Path:
    return output / "people" / frame.identity / frame.sequence / f"{frame.frame:06d}"


def slug(name: str) -> str:
    """A variant's folder."""
    return name.lower().replace(" ", "-")


def run(bench: Bench, frame: Frame, output: Path) -> dict[str, str]:
    """All variants of one instant but those with rows; what could not be driven, and why.

    Raises OmegaError or NotPlaced where the instant cannot be measured.
    """
    home = home_of(output, frame)
    missing = [name for name, how in bench.variants.items() if not _finished(home / slug(name) / ROWS, how)]
    if not missing:
        return {}
    shared = Meter()
    source, targets = standard_views(frame, bench.protocol)
    cut_out = bench.cut_out if bench.protocol.mask == "matte" else None
    background = bench.protocol.background
    with shared.part("truth"):
        truths = [Truth.of(v, background, bench.find, cut_out) for v in (source, *targets)]
    picture = home / layout.EVALUATED_SOURCE
    if not picture.exists():
        codecs.save_image(picture, truths[0].over.float())
    meters = {name: Meter() for name in dict.fromkeys(["full", *missing])}
    rigs = {name: _rig(bench, home, name, meter) for name, meter in meters.items()}
    with torch.no_grad():
        places = {name: measure.place(rig, truths) for name, rig in rigs.items()}
        with shared.part("compare"):
            pairs = _compared(bench, rigs, {n: p[0] for n, p in places.items()}, truths[1:], missing)
    drivers, lost = _drivers(bench, frame.identity)
    key = {"identity": frame.identity, "sequence": frame.sequence, "frame": frame.frame}
    full = layout.Avatar(home / slug("full") / "avatar")
    refiner = _refiner(bench, full, "full", meters["full"])
    used = contamination.weights_of(full, *(refiner.digests if refiner else ()))
    trained = contamination.seen_by(bench.protocol.dataset, frame.identity, used)
    for name in missing:
        with meters[name].part("drive") if drivers else contextlib.nullcontext():
            driven = [_driven(bench, rigs[name], driver) for driver in drivers]
        document = {
            "rows": [key | finite(pair.row) | {"variant": name} for pair in pairs[name]],
            "driven": [key | finite(row) | {"variant": name} for row in driven],
            "placed_within_mm": round(1e3 * places[name][1], 2),
            "parts": meters[name].record() | (shared.record() if name == missing[0] else {}),
            "missing_cameras": list(frame.missing),
            "trained_on": trained,
            "settings": bench.variants[name],
        }
        report_page.save_sheet(home / slug(name) / layout.SHEET, pairs[name])
        with folders.writing_file(home / slug(name) / ROWS) as scratch:
            scratch.write_text(json.dumps(document, indent=1))
    return lost


def _finished(rows: Path, settings: Mapping[str, Any]) -> bool:
    """Whether rows are there, and of these settings."""
    return rows.exists() and json.loads(rows.read_text()).get("settings", settings) == settings


def _compared(
    bench: Bench, rigs: Mapping[str, Rig], places: Mapping[str, Any], truths: list[Truth], names: list[str]
) -> dict[str, list[measure.Compared]]:
    """Pairs of each variant, their pictures reduced to the sheet's size. Each truth is prepared once."""
    posed = {name: rigs[name].pose(rigs[name].vertices(rigs[name].params)[0]) for name in names}
    pairs: dict[str, list[measure.Compared]] = {name: [] for name in names}
    for truth in truths:
        masks = measure.regions_of(truth, rigs["full"], places["full"], bench.protocol)
        for name in names:
            avatar = rigs[name], posed[name], places[name]
            pair = measure.compare(*avatar, truth, masks, bench.protocol, bench.networks)
            small = report_page.small
            pairs[name].append(replace(pair, render=small(pair.render), truth=small(pair.truth)))
    return pairs


def _rig(bench: Bench, home: Path, name: str, meter: Meter) -> Rig:
    """The avatar of one variant, made where it is not; an ablation starts from a copy of the full one."""
    avatar, picture = home / slug(name) / "avatar", home / layout.EVALUATED_SOURCE
    if name != "full" and not avatar.exists():
        shutil.copytree(home / "full" / "avatar", avatar)
    pipeline.make_avatar(
        record.create_avatar(avatar, picture), picture, settings=bench.variants.get(name, {}),
        until_stage="decode", device=bench.device, seed=bench.seed, report=meter,
    )  # fmt: skip
    made = layout.Avatar(avatar)
    return load_rig(made, bench.device, _refiner(bench, made, name, meter))


def _refiner(bench: Bench, avatar: layout.Avatar, name: str, report: Report) -> Loaded[Refiner] | None:
    config = RenderConfig(**bench.variants.get(name, {}).get("render", {}))
    return chosen_refiner(avatar, config.refine, config.refiner, bench.device, report)


def _drivers(bench: Bench, identity: str) -> tuple[list[driving.Driver], dict[str, str]]:
    """The protocol's drivers of a person, tracked once; and those that the tracker refused."""
    if identity in bench.drivers:
        return bench.drivers[identity], {}
    samples = tuple(s for s in bench.protocol.driven if s.identity == identity)
    found, lost = [], {}
    if samples:
        moved = replace(bench.protocol, samples=samples, driven=())
        for frame in bench.data.read(bench.root, moved):
            pictures = standard_views(frame, moved)[0].read("keep")
            mask = 1.0 if pictures.mask is None else pictures.mask
            picture = pictures.image * mask + driving.BACKDROP * (1 - mask)
            try:
                tracked = driving.tracked(picture, bench.head, bench.tracker, frame.key)
                found.append(driving.Driver(frame.sequence, frame.frame, tracked))
            except OmegaError as error:
                lost[frame.key] = f"as driver: {error.message}"
    bench.drivers = {identity: found}
    return found, lost


def _driven(bench: Bench, rig: Rig, driver: driving.Driver) -> dict[str, object]:
    where = {"driver_sequence": driver.sequence, "driver_frame": driver.frame}
    return {**where, **driving.drive(rig, driver, bench.head, bench.tracker)}


def _finder(landmarker: Landmarker) -> Callable[[np.ndarray], np.ndarray | None]:
    def find(rgb: np.ndarray) -> np.ndarray | None:
        faces = landmarker.detect(rgb)  # one look: the pictures are cropped to one head
        return faces[0].points if faces else None

    return find


def finite(row: Mapping[str, object]) -> dict[str, object]:
    """A metric without a value (no face; equal pictures have no PSNR) is null, which JSON knows."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
