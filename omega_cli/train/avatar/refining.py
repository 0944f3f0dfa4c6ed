"""The refiner alone, on pictures of finished avatars: a hundred of them in the time of one avatar's making.

Encoder and decoder stand still, so each sample is drawn once and its pictures are kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from omega_cli.model import OmegaModel, splatted
from omega_cli.train.avatar.loop import Trainer
from omega_cli.train.avatar.pool import Member, avatar_of

KEPT = 3  # pictures of each sample: 17 MB each at 512 px


class RefinerTrainer(Trainer):
    """A `Trainer` that changes nothing but the refiner."""

    def __init__(self, model: OmegaModel, *args: Any, **others: Any) -> None:
        model.encoder.requires_grad_(False)
        model.decoder.requires_grad_(False)
        super().__init__(model, *args, **others)
        self._drawn: dict[str, tuple[list[int], Tensor, Tensor]] = {}

    def terms(self, member: Member) -> dict[str, Tensor]:
        """Eq. 8 and 9's of some of the pictures kept; nothing is said of views and offsets."""
        targets, image, alpha = self._pictures(member)
        order = torch.randperm(len(targets), generator=self.generator)[: self.config.targets]
        backgrounds = self.backgrounds(len(order))
        drawn = self.model.refined(image[order].float(), alpha[order].float(), backgrounds)
        terms = self.beside_truth(member, [targets[k] for k in order.tolist()], drawn, backgrounds)
        return terms | {"mv": alpha.new_zeros(()), "local": alpha.new_zeros(())}

    @torch.no_grad()
    def _pictures(self, member: Member) -> tuple[list[int], Tensor, Tensor]:
        """Which targets, splatted channels [K, 32, H, W] and alpha [K, 1, H, W] in sixteen bits."""
        if member.name not in self._drawn:
            chosen = torch.randperm(len(member.kinds), generator=self.generator)[:KEPT].tolist()
            avatar, _ = avatar_of(self.model, member)
            tables = member.standing(self.model.head).tables[[1 + k for k in chosen]]
            cameras = [member.sample.targets.camera(k) for k in chosen]
            image, alpha = splatted(self.model.posed(avatar, tables), cameras)
            self._drawn[member.name] = chosen, image.half(), alpha.half()
        return self._drawn[member.name]
