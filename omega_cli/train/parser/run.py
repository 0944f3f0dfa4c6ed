"""`omega train --stage parser`, files in, files out."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

import omega_cli
from omega_cli.avatar import codecs, folders, layout
from omega_cli.console import Report
from omega_cli.errors import OmegaError
from omega_cli.track import parsing_checkpoint
from omega_cli.track.parsing_network import SIDE, ParserConfig, ParserNet
from omega_cli.train.config import TrainConfig
from omega_cli.train.parser import compare, makers, pack, partial, score, worn
from omega_cli.train.parser.drawn import PLANES
from omega_cli.train.parser.loop import LoopConfig, Photographs, train, upsampled
from omega_cli.train.views.pool import Pool
from omega_cli.train.views.scoring import HELD_OUT

TINY_NET = ParserConfig((8, 16, 16, 32, 32), (16, 16, 16, 32), (1, 1, 1, 1))
SHEET_PICTURES = 24
GROUND_SIDE = 144  # px of a photograph's surroundings


def run(config: TrainConfig, output: Path, *, device: str, seed: int, report: Report) -> Path:
    """Train and return the weights' path."""
    place = torch.device(device)
    torch.manual_seed(seed)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    output.mkdir(parents=True, exist_ok=True)
    codecs.save_json(output / layout.RUN_CONFIG, _record(config, seed))
    making = makers.MakerConfig(
        output / "samples", output / "score", config.size,
        blends=Path(config.blends) if config.blends else None, most=config.most,
        first_seed=2_000_000 * (seed + 1), score_heads=config.score_heads, score_people=config.score_hair,
    )  # fmt: skip
    processes = makers.start(making, config.workers)
    net = _network(config).to(place)
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pool = Pool(making.folder, config.pool, config.size, place, PLANES)
    photos = _photographs(Path(config.portraits), place) if config.portraits else None
    judged: dict[str, score.Pictures] = {}

    def on_score(mean: ParserNet, step: int, seconds: float) -> None:
        row: dict[str, Any] = {"step": step, "seconds": round(seconds, 1)}
        row |= {group: score.score(labeller(mean, place), them) for group, them in judged.items()}
        with (output / layout.RUN_SCORES).open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        report.note(_line(row))
        with folders.writing_file(output / layout.FACE_PARSER) as scratch:
            scratch.write_bytes(_bytes(mean, config, step, seconds))

    loop = LoopConfig(
        seconds=config.seconds, batch=config.batch, rate=config.rate, size=config.size,
        at_least=config.wait_for, compile=config.compile, seed=seed,
    )  # fmt: skip
    began = time.perf_counter()
    try:
        _await_first(processes, making)
        judged |= score.drawn(making.score_folder, place)
        if config.compare:
            judged["photographs"] = score.photographs(Path(config.compare), place)
        with report.progress("train"):
            mean = train(net, pool, photos, loop, output / layout.RUN_LOG, on_score)
        on_score(mean, -1, time.perf_counter() - began)
        _sheets(mean, judged, output, place)
    finally:
        for process in processes:
            process.terminate()
    return output / layout.FACE_PARSER


def labeller(net: ParserNet, place: torch.device) -> score.Labeller:
    """A network in training as it will be used: 256 px or less inside, labels at the picture's size."""

    @torch.no_grad()
    def label(rgb: Tensor) -> Tensor:
        x = rgb[None].to(place)
        if x.shape[-1] > SIDE:
            x = torch.nn.functional.interpolate(x, (SIDE, SIDE), mode="bilinear", antialias=True)
        return upsampled(net(x), rgb.shape[-1])[0].argmax(0)

    return label


def _network(config: TrainConfig) -> ParserNet:
    if not config.start:
        return ParserNet(TINY_NET if config.preset == "tiny" else ParserConfig())
    path = Path(config.start)
    if not path.is_file():
        raise OmegaError(f"There are no weights {path}.", "Leave --start out to begin from nothing.")
    return parsing_checkpoint.from_bytes(path.read_bytes(), str(path))[0]


def _photographs(path: Path, place: torch.device) -> Photographs:
    if not path.is_file():
        raise OmegaError(f"There is no pack {path}.", "Write one with omega_cli.train.parser.pack.")
    pictures, bits, grounds, rng = [], [], [], np.random.default_rng(0)
    for number, one in enumerate(filter(partial.credible, pack.read(path))):
        grounds.append(torch.from_numpy(_ground(one)).permute(2, 0, 1))
        known = [(one, partial.allowed_labels(one))]
        if number % 3 < 2:
            known.append(worn.dressed(*known[0], rng))
        for seen, allowed in known:
            matte = (seen.matte * 255).round().astype(np.uint8)
            picture = np.concatenate([seen.rgb, matte[..., None]], 2)
            pictures.append(torch.from_numpy(picture).permute(2, 0, 1))
            bits.append(torch.from_numpy(allowed))
    return Photographs(*(torch.stack(part).to(place) for part in (pictures, bits, grounds)))


def _ground(one: pack.Portrait) -> np.ndarray:  # [h, w, 3] uint8
    """What the photograph shows around the person, continued where they stand."""
    side = (GROUND_SIDE, GROUND_SIDE)
    area = np.ix_(one.photo.any(1), one.photo.any(0))
    small = cv2.resize(one.rgb[area], side, interpolation=cv2.INTER_AREA)
    person = cv2.resize(one.matte[area], side, interpolation=cv2.INTER_AREA) > 0.05
    grown = cv2.dilate(person.astype(np.uint8), np.ones((5, 5), np.uint8))
    return cv2.inpaint(small, grown, 4, cv2.INPAINT_TELEA)


def _await_first(processes: list, making: makers.MakerConfig) -> None:
    """What is scored must be there, so that scores can be compared."""
    names = [name for name, _ in makers.scored(making)]
    while processes and not all(
        (making.score_folder / f"{n}.npy").exists() or list(making.score_folder.glob(f"failed-{n}.txt"))
        for n in names
    ):
        if not any(process.is_alive() for process in processes):
            raise OmegaError("The sample makers ended early.", f"See failed-*.txt in {making.score_folder}.")
        time.sleep(0.2)


def _record(config: TrainConfig, seed: int) -> dict[str, Any]:
    return {
        "schema": "omega/train/1", "omega": omega_cli.__version__, "torch": torch.__version__, "seed": seed,
        "processes": 1, "config": dataclasses.asdict(config),
    }  # fmt: skip


def _bytes(net: ParserNet, config: TrainConfig, step: int, seconds: float) -> bytes:
    sets = ["studio/*", *(["valid/*"] * bool(config.blends)), *(["portraits/*"] * bool(config.portraits))]
    held_out = ["studio/9???????", *(f"valid/{name}" for name in HELD_OUT)]
    return parsing_checkpoint.to_bytes(
        net, trained_on=sets, held_out=held_out, size=config.size, step=step, seconds=round(seconds, 1)
    )


def _line(row: dict[str, Any]) -> str:
    """A score in one line."""
    text = [f"{row['seconds']:.0f} s, step {row['step']}"]
    for group in ("head", "person", "photographs"):
        if group in row:
            found = [f"{name} {row[group][name]['all']:.3f}" for name in ("skin", "face", "hair", "person")
                     if name in row[group]]  # fmt: skip
            text.append(f"{group}: " + ", ".join(found))
    return "; ".join(text)


def _sheets(net: ParserNet, judged: dict[str, score.Pictures], output: Path, place: torch.device) -> None:
    """Pictures of what the network says: of drawn people beside the truth, of photographs beside others."""
    people = [row for group, pictures in judged.items() if group != "photographs" for row in pictures]
    shown = people[:: max(1, len(people) // SHEET_PICTURES)][:SHEET_PICTURES]
    for name, pictures in ((layout.RUN_COMPARED, judged.get("photographs")), (layout.RUN_PEOPLE, shown)):
        if pictures:
            sheet = compare.sheet(labeller(net, place), pictures)
            codecs.save_image(output / name, codecs.contact_sheet(sheet, columns=9))
