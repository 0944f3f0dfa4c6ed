"""The canonical view set: SOAP's six azimuths, orthographic, elevation 0 (docs/paper.md)."""

from __future__ import annotations

import torch

from ..geometry.camera import Camera, orthographic

# id -> camera azimuth in degrees; positive moves the camera to the subject's left (+x). SOAP lists
# object yaws 0, -90, 180, 90, -45, 45, whose camera azimuths are the negatives.
CANONICAL_VIEWS: dict[str, float] = {
    "000": 0.0,
    "045": 45.0,
    "090": 90.0,
    "180": 180.0,
    "270": 270.0,
    "315": 315.0,
}

# Window centre in the head frame (origin between the ear canals), metres: a head with hair and its neck
# sit in the middle of the window. Ours; a constant, so that networks see every head at one scale.
VIEW_CENTRE = torch.tensor([0.0, -0.01, 0.0])


def canonical_cameras(size: int, half_extent: float) -> list[Camera]:
    """The six cameras in file order, square, `size` px, seeing +-half_extent metres."""
    return [
        orthographic(azimuth, size, half_extent, VIEW_CENTRE, id=view_id)
        for view_id, azimuth in CANONICAL_VIEWS.items()
    ]
