"""The fit: observe, differentiate, step by the objective's own curvature, and never let a triangle flip."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from omega_cli.deform_flame.factor import Factoriser, Pattern, factoriser
from omega_cli.deform_flame.metric import Metric
from omega_cli.deform_flame.objective import Lambdas, Problem, area_ratio, deformation_loss, term_names
from omega_cli.deform_flame.observe import Observation, observe
from omega_cli.deform_flame.views import Views
from omega_cli.errors import OmegaError

# The Laplacian starts START_STIFFNESS times stiffer and relaxes over the first half of the steps: the hair's
# bulk is found before its waves, so that far outlines do not pull single vertices out. ours
START_STIFFNESS = 30.0
RELAXED_AFTER = 0.5
SETTLED = 2e-3  # relative: a smaller gain does not count as one
PATIENCE = 3  # steps without a gain, at the final stiffness, that end the fit
REFACTOR = 2  # steps that share one factorisation of the metric
LEAST_AREA = 0.02  # of its rest area, projected: what every face keeps in the result
STEP_LIMIT = 0.02  # m: longest move of a vertex in one step
BACKTRACKS = 4


@dataclass(frozen=True)
class Fit:
    """offsets [V, 3] m, canonical; history: a record for each step (terms without their lambdas);
    unfolded: faces that needed the final repair."""

    offsets: Tensor
    history: list[dict[str, float]]
    unfolded: int


def fit(
    problem: Problem,
    views: Views,
    lambdas: Lambdas,
    *,
    iterations: int,
    max_offset: float,
    on_step: Callable[[], None] = lambda: None,
    factorise: Callable[[Pattern], Factoriser] = factoriser,
) -> Fit:
    """Optimise ΔV (Eq. 2) in one pass, on the problem's device. On a CPU deterministic; on a GPU to the
    order of its sums."""
    metric = Metric(problem, lambdas, factorise)
    semantics, rest, faces = problem.semantics, problem.canonical, problem.faces
    offsets = torch.zeros_like(rest)
    relaxed = [min(1.0, step / max(1.0, RELAXED_AFTER * iterations)) for step in range(iterations)]
    schedule = [dataclasses.replace(lambdas, lap=START_STIFFNESS ** (1 - r) * lambdas.lap) for r in relaxed]
    names = term_names(problem)
    factors = rest.new_tensor([[now.factor(name) for name in names] for now in schedule])
    solver = failed = None
    history: list[dict[str, float]] = []
    best, best_offsets, since_best = float("inf"), offsets, 0
    began = time.perf_counter()
    for step, now in enumerate(schedule):
        stiffness = START_STIFFNESS ** (1 - relaxed[step])
        posed = problem.to_views(rest + offsets)
        seen = observe(rest, offsets, posed, faces, views, semantics)
        variable = offsets.clone().requires_grad_(True)
        terms = _stack(deformation_loss(variable, problem, seen), names)
        (gradient,) = torch.autograd.grad(terms, variable, factors[step])
        if step % REFACTOR == 0 or solver is None or failed is None:
            solver, failed = metric.solver(offsets, posed, seen, stiffness)
        move = -solver(gradient)
        move *= STEP_LIMIT / move.norm(dim=1, keepdim=True).clamp_min(STEP_LIMIT)
        terms, taken, following = _line_search(
            offsets, move, terms.detach(), failed, names, problem, seen, now, max_offset
        )
        record = terms | {"step": step, "total": lambdas.total(terms), "stiffness": stiffness}
        # totals of two steps differ by what came into sight as well, so the lowest one is kept
        if relaxed[step] == 1.0 and record["total"] < (1 - SETTLED) * best:
            best, best_offsets, since_best = record["total"], offsets, 0
        elif relaxed[step] == 1.0:
            since_best += 1
        offsets = following
        record |= {"moved_mm": 1e3 * taken, "seconds": time.perf_counter() - began}
        history.append(record)
        on_step()
        if since_best >= PATIENCE:
            break
    offsets = best_offsets if best < float("inf") else offsets
    offsets, unfolded = unfold(offsets, problem)
    return Fit(semantics.follow(offsets), history, unfolded)


def _stack(terms: dict[str, Tensor], names: tuple[str, ...]) -> Tensor:
    return torch.stack([terms[name] for name in names])


def _line_search(
    offsets: Tensor,
    move: Tensor,
    terms: Tensor,
    failed: Tensor,
    names: tuple[str, ...],
    problem: Problem,
    seen: Observation,
    lambdas: Lambdas,
    limit: float,
) -> tuple[dict[str, float], float, Tensor]:
    """The terms at `offsets` as numbers, the RMS move taken (m) and the new offsets: the longest of a few
    halvings that lowers the loss.

    All that the CPU wants to know of a step comes in one transfer, with the first candidate's terms: it is
    hardly ever refused.
    """
    before: dict[str, float] = {}
    for halvings in range(BACKTRACKS):
        candidate = clamp(offsets + move / 2**halvings, limit)
        with torch.no_grad():
            after = _stack(deformation_loss(candidate, problem, seen), names)
        rms = (candidate - offsets).square().sum(1).mean().sqrt()
        *numbers, taken, info = torch.cat([terms, after, torch.stack([rms, failed.to(rms)])]).tolist()
        if info:
            raise OmegaError(
                "The fit's curvature is not positive definite: a number in it is not finite, or too large.",
                "Look at views/normal and views/mask; give the weights (--lambda-...) their defaults.",
            )
        before, after = (dict(zip(names, part)) for part in (numbers[: len(names)], numbers[len(names) :]))
        if lambdas.total(after) < lambdas.total(before):
            return before, taken, candidate
    return before, 0.0, offsets


def clamp(offsets: Tensor, limit: float) -> Tensor:
    """Offsets [V, 3] no longer than `limit` m."""
    return offsets * (limit / offsets.norm(dim=1, keepdim=True).clamp_min(limit))


def unfold(offsets: Tensor, problem: Problem, rounds: int = 200) -> tuple[Tensor, int]:
    """Relax offsets around faces below LEAST_AREA until there is none; returns how many there were.

    A face whose corners share one offset is a translated rest face, so averaging with the neighbours
    ends; the last resort after `rounds` is shrinking those offsets to zero, where nothing is folded.
    """
    rest, faces = problem.canonical, problem.faces
    first = 0
    for turn in range(rounds + 60):
        bad = area_ratio(rest + offsets, problem.planes, faces) < LEAST_AREA
        count = int(bad.sum())
        first = first or count
        if count == 0:
            break
        touched = torch.zeros(len(rest), dtype=torch.bool, device=rest.device)
        touched[faces[bad].reshape(-1)] = True
        for _ in range(turn // 20):  # a knot that does not open is opened from further away
            touched[faces[touched[faces].any(1)].reshape(-1)] = True
        smoother = offsets - problem.laplacian(offsets)
        if turn >= rounds:
            smoother = 0.8 * offsets
        offsets = torch.where(touched[:, None], 0.5 * (offsets + smoother), offsets)
    return offsets, first
