"""The training run of the avatar network: self-reenactment, one process or several, resumable to the bit."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from omega_cli.decode.residual import local_term
from omega_cli.errors import OmegaError
from omega_cli.gaussians.model import Gaussians
from omega_cli.gaussians.splat import render
from omega_cli.metrics.identity import IdentityLoss
from omega_cli.metrics.lpips import Lpips
from omega_cli.model import Drawn, OmegaModel
from omega_cli.splat_uv.stage import Views
from omega_cli.train.avatar.objective import (
    Lambdas,
    Wanted,
    difference,
    random_look,
    target_terms,
    total,
)
from omega_cli.train.avatar.pool import AvatarPool, Member, avatar_of
from omega_cli.train.avatar.samples import NOVEL
from omega_cli.train.schedule import learning_rate, mv_weight


@dataclass(frozen=True)
class LoopConfig:
    """One run. steps or seconds, whichever ends first; batch: avatars a step and process; targets: true
    pictures of each, one of them a novel view where there is one; betas and rate: Adam's (supplement B)."""

    steps: int = 1 << 30
    seconds: float = 1e9
    batch: int = 3
    targets: int = 2
    rate: float = 4e-4
    betas: tuple[float, float] = (0.9, 0.99)
    warmup: int = 200
    decay_from: float = 0.5
    clip: float = 1.0
    average: float = 0.998
    at_least: int = 8
    score_every: float = 300.0
    seed: int = 0
    lambdas: Lambdas = field(default_factory=Lambdas)


class NotFinite(OmegaError):
    """A gradient that is no number; samples: whose losses are none, else all of the step."""

    def __init__(self, step: int, norm: float, samples: list[str]) -> None:
        super().__init__(
            f"The gradient of step {step} is {norm} (samples: {', '.join(samples)}).",
            "Look at these samples, or go on from the last checkpoint (--resume) with a smaller --rate.",
        )
        self.step, self.samples = step, samples


class Trainer:
    """Model, optimizer, averaged weights and random numbers of one process: all that a resumed run needs."""

    def __init__(
        self,
        model: OmegaModel,
        pool: AvatarPool,
        lpips: Lpips | None,
        identity: IdentityLoss | None,
        config: LoopConfig,
    ) -> None:
        self.model, self.pool, self.config = model, pool, config
        self.perceptual = lpips.distance if lpips is not None else None
        self.identity = identity.distance if identity is not None else None
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        self.mean = {name: p.detach().clone() for name, p in model.named_parameters()}
        learning = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(learning, lr=config.rate, betas=config.betas)
        self.generator = torch.Generator().manual_seed(config.seed * 1000 + self.rank)
        self.step, self.seconds = 0, 0.0

    # --- one step ---------------------------------------------------------------------------------------

    def terms(self, member: Member) -> dict[str, Tensor]:
        """Eq. 8 and 9's terms for one avatar: the mean over its drawn targets."""
        avatar, views = avatar_of(self.model, member)
        chosen = self._choose(member.kinds)
        tables, backgrounds = member.standing(self.model.head).tables, self.backgrounds(len(chosen))
        cameras = [member.sample.targets.camera(k) for k in chosen]
        posed = self.model.posed(avatar, tables[[0] + [1 + k for k in chosen]])
        drawn = self.model.draw(posed[1:], cameras, backgrounds)
        terms = self.beside_truth(member, chosen, drawn, backgrounds)
        side = self._side_view(posed[0], views)
        return terms | {"mv": side, "local": local_term(avatar.changes)}

    def backgrounds(self, count: int) -> Tensor:  # [T, 3]
        return torch.rand(count, 3, generator=self.generator).to(self.pool.device)

    def beside_truth(
        self, member: Member, chosen: list[int], drawn: Drawn, backgrounds: Tensor
    ) -> dict[str, Tensor]:
        """Terms of these targets, as they were drawn over backgrounds [T, 3]."""
        targets, faces = member.sample.targets, member.seen(self.model.head)
        rgba, known = targets.rgba[chosen].float() / 255, targets.known[chosen].float() / 255
        rgb = rgba[:, :3] * rgba[:, 3:] + (1 - rgba[:, 3:]) * backgrounds[..., None, None]
        size = rgb.shape[-1]
        looks = [random_look(faces.extents[k], size, self.generator) for k in chosen]
        wanted = Wanted(rgb, known, looks, [faces.boxes[k] for k in chosen], faces.points[chosen])
        return target_terms(drawn, wanted, self.perceptual, self.identity)

    def _choose(self, kinds: list[int]) -> list[int]:
        novel = [k for k, kind in enumerate(kinds) if kind == NOVEL]
        order = torch.randperm(len(kinds), generator=self.generator).tolist()
        first = [novel[int(torch.randint(len(novel), (1,), generator=self.generator))]] if novel else []
        return (first + [k for k in order if k not in first])[: self.config.targets]

    def _side_view(self, posed: Gaussians, views: Views) -> Tensor:
        """L_mv: one of the six views, raw image alone."""
        k = int(torch.randint(len(views.rgb), (1,), generator=self.generator))
        raw = posed.first_colours(3)
        seen = render(raw, views.cameras[k], background=torch.ones_like(raw.colors[0]))
        return difference(seen.image, views.rgb[k], torch.ones_like(seen.alpha)[None])

    def advance(self, progress: float) -> dict[str, Tensor]:
        """One optimizer step over `batch` avatars; the means of the terms."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step, progress)
        self.optimizer.zero_grad(set_to_none=False)
        logged: dict[str, Tensor] = {}
        losses: dict[str, Tensor] = {}
        for _ in range(config.batch):
            member = self.pool.draw(self.generator)
            terms = self.terms(member)
            loss = total(terms, config.lambdas, mv_weight(progress)) / config.batch
            loss.backward()
            losses[member.name] = loss.detach()
            for name, value in (terms | {"total": loss * config.batch}).items():
                part = value.detach() / config.batch
                logged[name] = logged[name] + part if name in logged else part
        norm = self._joined_norm(torch.stack(list(losses.values())).sum())
        if not torch.isfinite(norm):
            wrong = [name for name, loss in losses.items() if not torch.isfinite(loss)]
            raise NotFinite(self.step, float(norm), wrong or list(losses))
        self.optimizer.step()
        self._average()
        self.step += 1
        return logged

    def _joined_norm(self, losses: Tensor) -> Tensor:
        """Average the processes' gradients, then clip. The norm before; no number, in every process, where
        the sum of any one's losses is none: |x| has the gradient 0 there."""
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        if self.world > 1:
            parts = [p.grad.flatten() for p in parameters]  # type: ignore[union-attr]
            joined = torch.cat([*parts, losses[None]])
            dist.all_reduce(joined)
            flat, losses = joined[:-1] / self.world, joined[-1]
            for p, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
                p.grad = part.view_as(p)
        return torch.nn.utils.clip_grad_norm_(parameters, self.config.clip) + 0 * losses

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.config.average, (1 + self.step) / (20 + self.step))
        now = dict(self.model.named_parameters())
        torch._foreach_lerp_(list(self.mean.values()), [now[name].detach() for name in self.mean], 1 - decay)

    # --- the whole run ----------------------------------------------------------------------------------

    def averaged(self) -> OmegaModel:
        """A copy with the averaged weights."""
        head, self.model.head = self.model.head, None  # type: ignore[assignment]
        twin = copy.deepcopy(self.model)
        self.model.head = twin.head = head
        twin.load_state_dict(self.mean, strict=False)
        return twin.requires_grad_(False)

    def state(self) -> dict[str, Any]:
        """Everything but the samples themselves, for `restore`: the model, its mean, the optimizer, and of
        every process its random numbers and the names of its samples. All processes must call it."""
        own = {"generator": self.generator.get_state(), "members": self.pool.names}
        processes: list[Any] = [own] * self.world
        if self.world > 1:
            dist.all_gather_object(processes, own)
        return {
            "model": self.model.state_dict(), "mean": self.mean, "optimizer": self.optimizer.state_dict(),
            "step": self.step, "seconds": self.seconds, "processes": processes,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, with the same samples in the same order. The pool must be empty.

        Raises OmegaError for another number of processes or networks of other sizes.
        """
        if len(state["processes"]) != self.world:
            raise OmegaError(
                f"The run had {len(state['processes'])} processes, now it has {self.world}.",
                "Start as many, or begin another run with --start.",
            )
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError as error:
            raise OmegaError(
                "The run to go on with has networks of other sizes.", "Use the same --preset."
            ) from error
        own = state["processes"][self.rank]
        self.pool.take(own["members"])
        with torch.no_grad():
            for name, value in self.mean.items():
                value.copy_(state["mean"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(own["generator"])
        self.step, self.seconds = state["step"], state["seconds"]

    def run(
        self,
        log_file: Path,
        on_state: Callable[[dict[str, Any]], None] | None = None,
        more: Callable[[], bool] = lambda: True,
    ) -> None:
        """Train to the end of `config`. Rank 0 logs every 20 steps; it hands its state to on_state every
        `score_every` s and at the end. more: whether further samples may come.

        Raises OmegaError where there are too few and none come, NotFinite for a gradient that is no number.
        """
        config, device = self.config, next(self.model.parameters()).device
        self._await_samples(more)
        began, sums, count = time.perf_counter() - self.seconds, {}, 0
        scored = self.seconds
        while self.step < config.steps:
            elapsed = torch.tensor(time.perf_counter() - began, device=device)
            if self.world > 1:
                dist.broadcast(elapsed, 0)  # all stop at the same step
            seconds = self.seconds = float(elapsed)
            if seconds > config.seconds:
                break
            self.pool.refresh()
            progress = max(seconds / config.seconds, self.step / config.steps)
            for name, value in self.advance(progress).items():
                sums[name] = sums.get(name, 0.0) + value
            count += 1
            if self.rank == 0 and (self.step % 20 == 0 or self.step == config.steps):
                row = {name: round(float(value) / count, 5) for name, value in sums.items()}
                row |= {"step": self.step, "seconds": round(seconds, 1), "pool": len(self.pool)}
                with log_file.open("a") as stream:
                    stream.write(json.dumps(row) + "\n")
                sums, count = {}, 0
            if seconds - scored > config.score_every:
                scored = seconds
                self._hand_over(on_state)
        self._hand_over(on_state)

    def _await_samples(self, more: Callable[[], bool]) -> None:
        """Until every process has enough; where one has not and none come, all raise together."""
        while True:
            come = more()
            if len(self.pool) < self.config.at_least:
                come = bool(self.pool.refresh()) or come
            least = self._least(len(self.pool) - self.config.at_least)
            if least >= 0:
                return
            if not self._least(int(come)):
                share = " as its share" if self.world > 1 else ""
                raise OmegaError(
                    f"There are {self.config.at_least + least} samples, the run waits for"
                    f" {self.config.at_least}{share}.",
                    f"See failed-*.txt in {self.pool.folder}, or set --wait-for.",
                )
            if len(self.pool) < self.config.at_least:
                time.sleep(0.1)

    def _least(self, number: int) -> int:
        """Of all processes."""
        if self.world == 1:
            return number
        value = torch.tensor(number, device=next(self.model.parameters()).device)
        dist.all_reduce(value, dist.ReduceOp.MIN)
        return int(value)

    def _hand_over(self, on_state: Callable[[dict[str, Any]], None] | None) -> None:
        state = self.state()
        if on_state is not None and self.rank == 0:
            on_state(state)
