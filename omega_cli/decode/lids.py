"""Lids: in a photo of open eyes the upper lid is a dark line of lashes and crease; closed, it is skin."""

from __future__ import annotations

import torch
from torch import Tensor

from omega_cli.geometry.mesh import face_areas
from omega_cli.head.model import HeadModel

LUMINANCE = (0.299, 0.587, 0.114)
LID_RING = 2.0  # ours: the skin around an eye, in radii of the ball from its centre
LID_RIM = 1.15  # ours: nearer than this are the lids' rims, which no blink unfolds
UNFOLD_FROM, UNFOLD_TO = 1.3, 2.5  # ours: growth of a face's area in a blink, from none to fully unfolding
BLINKS = ("eyeBlinkLeft", "eyeBlinkRight")


def unfolding(model: HeadModel, vertices: Tensor) -> Tensor:  # [V, 3] m -> [F] in [0, 1]
    """Which faces a blink draws out: 0 none, 1 to 2.5 times their area and more. Zeros where the model has
    no blink shapes by name (official FLAME)."""
    shapes = [i for i, name in enumerate(model.expression_names) if name in BLINKS]
    if not shapes:
        return vertices.new_zeros(len(model.faces))
    closed = vertices + model.exprdirs[..., shapes].sum(-1)
    growth = face_areas(closed, model.faces) / face_areas(vertices, model.faces).clamp_min(1e-10)
    return ((growth - UNFOLD_FROM) / (UNFOLD_TO - UNFOLD_FROM)).clamp(0, 1)


def lid_donors(
    luminance: Tensor,  # [N]
    share: Tensor,  # [N] in [0, 1]
    points: Tensor,  # [N, 3] m, skin texels
    eye_centres: Tensor,  # [2, 3] m
    radius: float,  # m, of the eyeballs
) -> tuple[Tensor, Tensor]:  # [N], [N] in [0, 1]
    """(donor, rim). donor: what a seen skin texel may lend to the hidden skin of the lids: around each eye,
    brow, crease and lashes are darker than skin and lend nothing, nor do the wet rims of the lids. rim: those
    rims and what folds in behind them."""
    donor, rim = torch.ones_like(luminance), torch.zeros_like(luminance)
    for centre in eye_centres:
        distance = (points - centre).norm(dim=1) / radius
        rim = torch.maximum(rim, ((LID_RIM - distance) / 0.05).clamp(0, 1))
        ring = (distance > LID_RIM) & (distance < LID_RING) & (share > 0.5)
        if int(ring.sum()) < 20:
            continue
        usual = luminance[ring].quantile(0.75)
        bright = ((luminance / usual.clamp_min(1e-3) - 0.85) / 0.1).clamp(0, 1)
        bright = bright * ((distance - LID_RIM) / 0.1).clamp(0, 1)
        far = ((distance - LID_RING) / 0.5).clamp(0, 1)
        donor = torch.minimum(donor, torch.maximum(bright, far))
    return donor, rim
