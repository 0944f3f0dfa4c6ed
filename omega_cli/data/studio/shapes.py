"""Identities of another head model for the studio's people: a pack that `ict_pack` wrote."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from omega_cli.data.reading import need
from omega_cli.data.studio import traits
from omega_cli.errors import OmegaError
from omega_cli.geometry.mesh import edges
from omega_cli.head.model import HeadModel

SHARE = 0.5  # of the people take their shape from the pack
LIMIT = 2.4  # standard deviations of a coefficient
LIFT = 0.0004  # m that lids stand off the eyeball: its triangles are coarse
NEAR = 0.025  # m from an eyeball's centre: lids of the other eye are farther
BLINKS = (0.0, 0.35, 0.6, 0.8, 1.0)  # how far closed the lids must keep clear
SOFTENED = 6  # rounds in which a lid's lift spreads to its neighbours


@dataclass(frozen=True)
class Shapes:
    """mean [V, 3] m and modes [K, V, 3] m of the head `model`, std [K] of coefficients; betas_mean [S],
    betas_modes [K, S]: the model's own identity nearest to each; lids [V] bool and lashes (idx [L], their
    skin [L, 24] and its shares) keep clear of the eyeballs."""

    model: HeadModel
    mean: Tensor
    modes: Tensor
    std: Tensor
    betas_mean: Tensor
    betas_modes: Tensor
    lids: Tensor
    lashes: tuple[Tensor, Tensor, Tensor]

    def draw(self, wanted: tuple[float, float, float], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(betas [S], offsets [V, 3] m) of a random identity that reads as `wanted` (see `traits.fitted`);
        together they are the exact head."""
        drawn = torch.randn(len(self.std), generator=generator)
        return self.identity(self.std * self.fitted(drawn, wanted).clamp(-LIMIT, LIMIT))

    def identity(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """(betas [S], offsets [V, 3] m) of coefficients [K]."""
        V = len(self.mean)
        shaped = self.mean + (coefficients @ self.modes.flatten(1)).view(V, 3)
        betas = self.betas_mean + coefficients @ self.betas_modes
        return betas, self._lifted(shaped) - self.model.identity(betas)

    def fitted(self, drawn: Tensor, wanted: tuple[float, float, float]) -> Tensor:
        """Coefficients [K] in standard deviations, moved the shortest way to where the face is as male and
        as heavy among this pack's people as `wanted` is among the open head's.

        Not as old: age shows in skin more than in shape, and that direction of the designer's means little
        on scans.
        """
        if self._reading is None:
            return drawn
        reads, back = self._reading
        target = (torch.tensor(wanted) - torch.tensor(traits.MEAN)) / torch.tensor(traits.SD)
        return drawn + back @ (target[[0, 2]] - reads @ drawn)

    @cached_property
    def _reading(self) -> tuple[Tensor, Tensor] | None:
        """[2, K] how male and how heavy a coefficient makes a face, in standard deviations, and back.

        Male: half as the open head's direction reads, half by size, which that direction hardly knows: men's
        heads are larger, by some 1.4 standard deviations of either sex.
        """
        reads = traits.reading(self.model)
        if reads is None:
            return None
        male, _, heavy = _unit(reads @ (self.std[:, None] * self.betas_modes).T)
        skin = self.model.regions["skin"]
        out = self.mean[skin] - self.mean[skin].mean(0)
        size = _unit(self.std * torch.einsum("kvc,vc->k", self.modes[:, skin], out))
        rows = torch.stack([_unit(male + size), heavy])
        return rows, torch.linalg.pinv(rows)

    @cached_property
    def _near_lids(self) -> tuple[Tensor, Tensor]:
        """Edges among the lids and the skin within SOFTENED steps of them: two columns."""
        pairs, reached = edges(self.model.faces), self.lids.clone()
        for _ in range(SOFTENED):
            reached[pairs[reached[pairs].any(1)]] = True
        pairs = pairs[reached[pairs].all(1)]
        return torch.cat([pairs[:, 0], pairs[:, 1]]), torch.cat([pairs[:, 1], pairs[:, 0]])

    def _lifted(self, vertices: Tensor) -> Tensor:  # [V, 3] -> [V, 3]
        """Eyeballs that show neither through open nor through closing lids: what is missing comes half from a
        smaller ball, half from lids pushed out, whose lashes follow."""
        out = vertices.clone()
        for joint, name in ((3, "left_eye"), (4, "right_eye")):
            centre, ball = self.model.J_regressor[joint] @ vertices, self.model.regions[name]
            near = self.lids & ((vertices - centre).norm(dim=1) < NEAR)
            radius = (vertices[ball] - centre).norm(dim=1).amax()
            missing = torch.stack([self._short(out, e, centre, radius, near)[0] for e in BLINKS]).max()
            smaller = radius - missing / 2
            out[ball] = centre + (out[ball] - centre) * (smaller / radius)
            for closed in BLINKS:
                short, away = self._short(out, closed, centre, smaller, near)
                move = self._softened(short)[:, None] * away
                idx, skin, share = self.lashes
                move[idx] = torch.einsum("lk,lkc->lc", share, move[skin])
                move[self.model.regions["eyes"]] = 0
                out += move
        return out

    def _short(
        self, vertices: Tensor, closed: float, centre: Tensor, radius: Tensor, near: Tensor
    ) -> tuple[Tensor, Tensor]:
        """By how much each vertex [V] is too near the ball, the lids so far closed; its way out [V, 3]."""
        away = vertices + closed * self._blink - centre
        distance = away.norm(dim=1)
        short = (radius + LIFT - distance).clamp_min(0) * near
        return short, away / distance.clamp_min(1e-6)[:, None]

    @cached_property
    def _blink(self) -> Tensor:
        """[V, 3] m: both eyes closed."""
        names = self.model.expression_names
        both = [names.index(name) for name in ("eyeBlinkLeft", "eyeBlinkRight") if name in names]
        return self.model.exprdirs[..., both].sum(-1)

    def _softened(self, lift: Tensor) -> Tensor:  # [V] -> [V]
        """Nowhere less than `lift`, and falling off smoothly around."""
        i, j = self._near_lids
        degree = torch.bincount(i, minlength=len(lift)).clamp_min(1)
        soft = lift
        for _ in range(SOFTENED):
            mean = torch.zeros_like(lift).index_add_(0, i, soft[j]) / degree
            soft = torch.maximum(lift, 0.5 * soft + 0.5 * mean)
        return soft


def _unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=-1, keepdim=True).clamp_min(1e-9)


def load(path: Path, model: HeadModel) -> Shapes:
    """Read what `ict_pack.pack` wrote. Raises OmegaError where it fits another head than `model`."""
    hint = "Write it with: python -m omega_cli.data.studio.ict_pack --data DIR -o ict.npz"
    with np.load(need(path, "the pack of shapes", hint), allow_pickle=False) as z:
        if absent := {"head_sha256", "mean", "modes", "std", "lids"} - set(z.files):
            raise OmegaError(f"{path} is no pack of shapes: it lacks {', '.join(sorted(absent))}.", hint)
        if str(z["head_sha256"]) != model.sha256:
            raise OmegaError(f"{path} was made for another head.", hint)
        exact = ("mean", "std", "betas_mean", "betas_modes")
        lashes = (z["lashes"].astype(np.int64), z["lash_skin"].astype(np.int64), z["lash_share"])
        return Shapes(
            model=model,
            modes=torch.from_numpy(z["modes"]).float(),
            lids=torch.from_numpy(z["lids"]),
            lashes=tuple(map(torch.from_numpy, lashes)),  # type: ignore[arg-type]
            **{name: torch.from_numpy(z[name]) for name in exact},
        )
