"""What source/crop.json says of the aligned photo."""

from __future__ import annotations

import torch

EDGE = 9  # px: pictures have borders


def photo_area(crop: dict | None, width: int, height: int) -> torch.Tensor:  # [H, W] bool
    """Where the crop shows the photo, its outermost EDGE px left out. None: everywhere.

    Crop px = photo px * scale + shift.
    """
    if crop is None:
        return torch.ones(height, width, dtype=torch.bool)
    (left, top), (photo_width, photo_height) = crop["shift"], crop["photo_size"]
    x, y = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    columns = (x > left + EDGE) & (x < left + photo_width * crop["scale"] - EDGE)
    rows = (y > top + EDGE) & (y < top + photo_height * crop["scale"] - EDGE)
    return rows[:, None] & columns[None]
