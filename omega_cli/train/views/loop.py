"""The training run of the view network: a wall-clock budget, one process or several, EMA weights out."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from omega_cli.metrics.lpips import Lpips
from omega_cli.mv_diffuse.conditioning import base_of, network_input
from omega_cli.mv_diffuse.network import ViewNet
from omega_cli.train.schedule import learning_rate
from omega_cli.train.views.loss import perceptual_loss, pixel_loss
from omega_cli.train.views.pool import Pool
from omega_cli.train.views.samples import mirrored, unpacked


@dataclass(frozen=True)
class LoopConfig:
    """One run. seconds: of training, after the first step; batch: per process; at_least: samples to wait
    for before the first step; front_share: of a batch, photographs of which only the front is known;
    decay_from: share of the run at which the learning rate starts to fall (cosine)."""

    seconds: float = 60.0
    batch: int = 32
    rate: float = 4e-4
    warmup: int = 200
    decay_from: float = 0.5
    perceptual: float = 0.5
    looks: int = 2  # views a sample that the perceptual loss sees
    front_share: float = 0.15
    at_least: int = 256
    clip: float = 1.0
    average: float = 0.999
    compile: bool = False
    seed: int = 0
    steps: int = 1 << 30
    score_every: float = 300.0  # s


def recoloured(lift: Tensor, photo: Tensor, truth: Tensor, generator: torch.Generator) -> None:
    """Another exposure, contrast, white balance and saturation for all pictures of a sample, in place."""
    B = len(lift)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).clamp(-2.5, 2.5).to(lift)

    gamma = torch.exp(0.12 * normal(B, 1, 1, 1, 1))
    gain = torch.exp(0.08 * normal(B, 1, 1, 1, 1) + 0.03 * normal(B, 1, 3, 1, 1))
    saturation = 1 + 0.15 * normal(B, 1, 1, 1, 1)
    for images, alpha in (
        (lift, lift[:, :, 6:7]),
        (photo[:, None], photo[:, None, 3:4]),
        (truth, truth[:, :, 6:]),
    ):
        rgb = images[:, :, :3]
        colour = ((rgb - (1 - alpha)) / alpha.clamp_min(0.02)).clamp(1e-4, 1)
        colour = (colour**gamma * gain).clamp(0, 1)
        grey = colour.mean(2, keepdim=True)
        colour = (grey + saturation * (colour - grey)).clamp(0, 1)
        rgb.copy_(colour * alpha + 1 - alpha)


def batch_loss(
    net: Callable[[Tensor], Tensor],
    lpips: Lpips | None,
    sample: Tensor,  # uint8 [B, PLANES, h, w]
    front_only: Tensor,  # [B] bool
    config: LoopConfig,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Loss terms of one batch: {"total", "pixel", "perceptual"}."""
    lift, photo, truth = unpacked(sample)
    if float(torch.rand((), generator=generator)) < 0.5:
        lift, photo, truth = mirrored(lift, photo, truth)
    recoloured(lift, photo, truth, generator)
    with torch.autocast(sample.device.type, torch.bfloat16, enabled=sample.is_cuda):
        residual = net(network_input(lift, photo))
    predicted = base_of(lift) + residual.float()
    known = (~front_only).to(truth).view(-1, 1, 1, 1, 1).expand_as(truth[:, :, :1]).clone()
    known[:, 0] = 1
    # what is not known is its own truth, for the perceptual loss as well
    truth = torch.where(known > 0, truth, predicted.detach())
    terms = {"pixel": pixel_loss(predicted, truth, known)}
    terms["total"] = terms["pixel"]
    if lpips is not None and config.perceptual:
        views = (
            torch.rand(len(sample), 6, generator=generator).argsort(1)[:, : config.looks].to(sample.device)
        )
        views = torch.where(front_only[:, None], 0, views)
        terms["perceptual"] = perceptual_loss(lpips, predicted, truth, views)
        terms["total"] = terms["pixel"] + config.perceptual * terms["perceptual"]
    return terms


def train(
    net: ViewNet,
    pool: Pool,
    lpips: Lpips | None,
    config: LoopConfig,
    log_file: Path,
    on_score: Callable[[ViewNet, int, float], None] | None = None,
) -> ViewNet:
    """Train `net`; returns the averaged weights. Rank 0 appends a JSON line to log_file every 100 steps."""
    device = pool.samples.device
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    generator = torch.Generator().manual_seed(config.seed * 1000 + rank)
    mean = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=config.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=device.type == "cuda"
    )
    forward: Callable[[Tensor], Tensor] = net
    if world > 1:
        forward = torch.nn.parallel.DistributedDataParallel(net, device_ids=[device.index])
    if config.compile:
        forward = torch.compile(forward)
    while len(pool) < config.at_least:
        if not pool.refresh():
            time.sleep(0.5)
    log = log_file.open("a") if rank == 0 else None
    step, began, scored, sums = 0, time.perf_counter(), 0.0, {}
    while step < config.steps:
        elapsed = torch.tensor(time.perf_counter() - began, device=device)
        if world > 1:
            dist.broadcast(elapsed, 0)  # all stop at the same step
        seconds = float(elapsed)
        if seconds > config.seconds:
            break
        if step % 8 == 0:
            pool.refresh()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step, seconds / config.seconds)
        terms = batch_loss(
            forward, lpips, *pool.draw(config.batch, generator, config.front_share), config, generator
        )
        optimizer.zero_grad(set_to_none=True)
        terms["total"].backward()
        norm = torch.nn.utils.clip_grad_norm_(net.parameters(), config.clip)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"step {step}: the gradient is {float(norm)}")
        optimizer.step()
        decay = min(config.average, (1 + step) / (20 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(mean.parameters()), [p.detach() for p in net.parameters()], 1 - decay)
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + value.detach()
        step += 1
        if step == 3:
            began = time.perf_counter()  # compiling and first allocations do not count
        if step % 100 == 0 and log is not None:
            row = {name: round(float(value) / 100, 5) for name, value in sums.items()}
            row |= {"step": step, "seconds": round(seconds, 1), "samples": step * config.batch * world,
                    "pool": pool.added, "rate": optimizer.param_groups[0]["lr"]}  # fmt: skip
            log.write(json.dumps(row) + "\n")
            log.flush()
            sums = {}
        if on_score is not None and rank == 0 and seconds - scored > config.score_every:
            scored = seconds
            on_score(mean, step, seconds)
    if log is not None:
        log.close()
    return mean
