"""The separate parts of a head mesh: colours must never cross from one to the next."""

from __future__ import annotations

import torch
from torch import Tensor

from omega_cli.head.model import HeadModel

PARTS = ("skin", "left_eye", "right_eye", "teeth", "tongue", "mouth_inside", "lashes")
"""Index = part number. Later names win where regions overlap; everything unnamed is skin."""


def face_parts(model: HeadModel) -> Tensor:  # [F] long
    """Part number of every face: a face belongs to a part when all its vertices do."""
    part = torch.zeros(len(model.faces), dtype=torch.long, device=model.faces.device)
    for number, name in enumerate(PARTS):
        region = model.regions.get(name)
        if number and region is not None:
            part[region[model.faces].all(1)] = number
    return part
