"""The training run of the face parser: a wall-clock budget, one device, EMA weights out."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.track.parsing_network import ParserNet
from omega_cli.train.parser import augment
from omega_cli.train.parser.loss import believed, partial_loss
from omega_cli.train.views.loop import LoopConfig as RateConfig
from omega_cli.train.views.loop import learning_rate
from omega_cli.train.views.pool import Pool


@dataclass(frozen=True)
class LoopConfig:
    """One run. seconds: of training; photo_share: of a batch; teach_from: share of the run at which the
    averaged network begins to narrow down what photographs allow; sure, veto: see `loss.believed`."""

    seconds: float = 330.0
    batch: int = 96
    rate: float = 1.5e-3
    size: int = 256
    photo_share: float = 0.4
    teach_from: float = 0.4
    sure: float = 0.9
    veto: float = 0.05
    average: float = 0.998
    at_least: int = 256
    clip: float = 1.0
    compile: bool = False
    seed: int = 0
    score_every: float = 60.0  # s
    log_every: int = 50  # steps


@dataclass(frozen=True)
class Photographs:
    """On the training device. pictures [M, 4, S, S] uint8: rgb and matte; bits [M, S, S] int: allowed labels
    (`partial`); grounds [M, 3, h, w] uint8: the pictures with the person painted over."""

    pictures: Tensor
    bits: Tensor
    grounds: Tensor


def averaged(mean: ParserNet, net: ParserNet, decay: float) -> None:
    """mean += (1 - decay) (net - mean), norms' statistics included. In place."""
    with torch.no_grad():
        ours = [t for t in mean.state_dict().values() if t.is_floating_point()]
        theirs = [t.detach() for t in net.state_dict().values() if t.is_floating_point()]
        torch._foreach_lerp_(ours, theirs, 1 - decay)


def upsampled(logits: Tensor, size: int) -> Tensor:
    return F.interpolate(logits.float(), (size, size), mode="bilinear", align_corners=False)


def draw(pool: Pool, photos: Photographs | None, config: LoopConfig, rng: torch.Generator) -> augment.Batch:
    """People first, photographs after them."""
    count = round(config.batch * config.photo_share) if photos is not None else 0
    samples, _ = pool.draw(config.batch - count, rng, 0.0)
    bank = None if photos is None else photos.grounds
    batches = [augment.of_people(samples, config.size, bank)]
    if photos is not None and count:
        pick = torch.randint(len(photos.pictures), (count,), generator=rng).to(photos.bits.device)
        batches.append(augment.of_photographs(photos.pictures[pick], photos.bits[pick], config.size, bank))
    return augment.joined(batches)


def batch_loss(
    forward: Callable[[Tensor], Tensor],
    teacher: ParserNet | None,
    batch: augment.Batch,
    people: int,  # the first so many are fully known
    config: LoopConfig,
) -> dict[str, Tensor]:
    """{"people", "photos", "total"}; without photographs only people."""
    mixed = torch.autocast(batch.seen.device.type, torch.bfloat16, enabled=batch.seen.is_cuda)
    bits = batch.bits
    if teacher is not None and people < len(bits):
        with mixed, torch.no_grad():
            said = upsampled(teacher(batch.clean[people:]), config.size)
        bits = torch.cat([bits[:people], believed(said, bits[people:], config.sure, config.veto)])
    bits = torch.where(batch.hidden, 0, bits)
    with mixed:
        logits = forward(batch.seen.contiguous(memory_format=torch.channels_last))
    logits = upsampled(logits, config.size)
    terms = {"people": partial_loss(logits[:people], bits[:people])}
    terms["total"] = terms["people"]
    if people < len(bits):
        terms["photos"] = partial_loss(logits[people:], bits[people:])
        terms["total"] = terms["people"] + config.photo_share / (1 - config.photo_share) * terms["photos"]
    return terms


def train(
    net: ParserNet,
    pool: Pool,
    photos: Photographs | None,
    config: LoopConfig,
    log_file: Path,
    on_score: Callable[[ParserNet, int, float], None] | None = None,
) -> ParserNet:
    """Train `net`; returns the averaged weights. Appends a JSON line to log_file now and then."""
    device = pool.samples.device
    rng = torch.Generator().manual_seed(config.seed)
    mean = copy.deepcopy(net).requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=config.rate, betas=(0.9, 0.99), weight_decay=0.02, fused=device.type == "cuda"
    )
    forward: Callable[[Tensor], Tensor] = torch.compile(net) if config.compile else net
    while len(pool) < config.at_least:
        if not pool.refresh():
            time.sleep(0.2)
    rates = RateConfig(rate=config.rate, warmup=150, decay_from=0.3)
    people = config.batch - (round(config.batch * config.photo_share) if photos is not None else 0)
    step, began, scored, sums = 0, time.perf_counter(), 0.0, {}
    net.train()
    with log_file.open("a") as log:
        while (seconds := time.perf_counter() - began) < config.seconds:
            if step % 4 == 0:
                pool.refresh()
            progress = seconds / config.seconds
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(rates, step, progress)
            batch = draw(pool, photos, config, rng)
            teacher = mean if progress >= config.teach_from else None
            terms = batch_loss(forward, teacher, batch, people, config)
            optimizer.zero_grad(set_to_none=True)
            terms["total"].backward()
            norm = torch.nn.utils.clip_grad_norm_(net.parameters(), config.clip)
            if step % config.log_every == 0 and not torch.isfinite(norm):
                raise FloatingPointError(f"step {step}: the gradient is {float(norm)}")
            optimizer.step()
            averaged(mean, net, min(config.average, (1 + step) / (20 + step)))
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value.detach()
            step += 1
            if step == 3:
                began = time.perf_counter()  # compiling and first allocations do not count
            if step % config.log_every == 0:
                row = {name: round(float(value) / config.log_every, 5) for name, value in sums.items()}
                row |= {"step": step, "seconds": round(seconds, 1), "samples": step * config.batch,
                        "pool": pool.added, "rate": optimizer.param_groups[0]["lr"]}  # fmt: skip
                log.write(json.dumps(row) + "\n")
                log.flush()
                sums = {}
            if on_score is not None and seconds - scored > config.score_every:
                scored = seconds
                on_score(mean, step, seconds)
    return mean
