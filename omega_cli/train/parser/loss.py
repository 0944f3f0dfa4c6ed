"""What the parser is trained on: the probability of the labels that a pixel may bear."""

from __future__ import annotations

import torch
from torch import Tensor

from omega_cli.track import parsing as labels

SMALL = (labels.GLASSES, labels.EARS, labels.HAT)
SMALL_WEIGHT = 2.5  # of pixels that bear one of them: they are few  # ours
# not of brows, eyes and lips: landmarks tell them in every photograph, and weight made them fat


RARE = (labels.GLASSES, labels.HAT, labels.EARRING, labels.NECKLACE)
RARITY = 3.0  # nats that one of them must have over the others of a set: few photographs show one  # ours


def allowed(bits: Tensor) -> Tensor:  # int [B, H, W] -> bool [B, LABELS, H, W]
    number = torch.arange(labels.LABELS, device=bits.device, dtype=bits.dtype).view(-1, 1, 1)
    return (bits[:, None] >> number) & 1 > 0


def among(logits: Tensor, bits: Tensor) -> Tensor:  # [B, LABELS, H, W]
    """Logits of the labels that may be, rare ones lowered where a common one may be too; others -1e4.

    Without that a set of skin and glasses is as well explained by glasses on every face.
    """
    rare = sum(1 << label for label in RARE)
    mixed = (bits & ~rare != 0)[:, None]
    lower = torch.zeros(labels.LABELS, device=bits.device)
    lower[list(RARE)] = RARITY
    lowered = logits - mixed * lower.view(-1, 1, 1)
    return lowered.masked_fill(~allowed(bits), -1e4)


def pixel_weights(bits: Tensor) -> Tensor:  # int [B, H, W] -> [B, H, W]
    """0 where nothing is known, more where a small part is."""
    small = sum(1 << label for label in SMALL)
    weight = torch.where((bits & small > 0) & (bits & ~small == 0), SMALL_WEIGHT, 1.0)
    return weight * (bits != 0)


def partial_loss(
    logits: Tensor,  # [B, LABELS, H, W]
    bits: Tensor,  # int [B, H, W]: the labels that may be (`partial`)
) -> Tensor:
    """Weighted mean of -log of the summed probability of the allowed labels (`among`)."""
    logits = logits.float()
    summed = among(logits, bits).logsumexp(1)
    weight = pixel_weights(bits)
    return ((logits.logsumexp(1) - summed) * weight).sum() / weight.sum().clamp_min(1)


@torch.no_grad()
def believed(logits: Tensor, bits: Tensor, at_least: float, veto: float) -> Tensor:  # [B, H, W] int
    """A teacher's sure labels in place of wider sets: the best of the allowed ones, where its share of their
    probability is at_least that and more likely than not among all labels (of a set that the teacher hardly
    believes in, the best is a guess); elsewhere the sets as they are. Where the teacher gives a sure
    background less than `veto` nothing is known: mattes lose hair. Landmarks are not doubted, or a wrong
    teacher would never be corrected."""
    logits = logits.float()
    open_bits = torch.where(bits == 0, (1 << labels.LABELS) - 1, bits)
    those = among(logits, open_bits)
    best, label = those.softmax(1).max(1)
    mass = (those.logsumexp(1) - logits.logsumexp(1)).exp()
    credible = (mass > veto) | (bits != 1 << labels.BACKGROUND)
    told = torch.where((best >= at_least) & (best * mass > 0.5), 1 << label.to(bits.dtype), bits)
    return torch.where(credible, told, 0)
