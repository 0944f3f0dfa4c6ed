"""Which pixels of a truth are the head, the face, the hair, the neck: by labels, else by the fitted head.

A region is a property of the truth (and of the head's place): every variant is measured on the same pixels.
Its mask keeps 0 where another part of the person is, so that a shirt never counts for the head.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from omega_cli.avatar.layout import PARSING_LABELS
from omega_cli.evaluate.protocol import Protocol
from omega_cli.geometry.camera import Camera
from omega_cli.geometry.mesh import vertex_normals
from omega_cli.geometry.similarity import Similarity
from omega_cli.head.model import HeadModel

FACE = ("skin", "brows", "eyes", "glasses", "nose", "mouth_inside", "upper_lip", "lower_lip")
PARTS = {"face": FACE, "hair": ("hair", "hat"), "neck": ("neck", "necklace")}
NOT_HEAD = ("background", "cloth")
LEAST = 50  # px; a region smaller than this is not measured  # ours


def by_labels(labels: Tensor, protocol: Protocol) -> dict[str, Tensor]:  # [1, H, W] -> masks [1, H, W]
    """The protocol's regions of a labelled truth, those with fewer than LEAST pixels left out."""
    number = {name: i for i, name in enumerate(PARSING_LABELS)}

    def among(names: tuple[str, ...]) -> Tensor:
        return torch.isin(labels, torch.tensor([number[n] for n in names], dtype=labels.dtype))

    found = {}
    for name in protocol.regions:
        if name == "head":
            mask = with_rim(~among(NOT_HEAD), among(("cloth",)), protocol.region_rim)
        else:
            mask = among(PARTS[name])
        if int(mask.sum()) >= LEAST:
            found[name] = mask.float()
    return found


def by_hull(person: Tensor, hull: Tensor, protocol: Protocol) -> dict[str, Tensor]:  # [1, H, W] each
    """ "head" alone: the person (> 0.5) inside the hull; what of them lies outside is their body."""
    if "head" not in protocol.regions:
        return {}
    person, inside = person > 0.5, hull > 0.5
    mask = with_rim(person & inside, person & ~inside, protocol.region_rim)
    return {"head": mask.float()} if int(mask.sum()) >= LEAST else {}


def with_rim(head: Tensor, body: Tensor, rim: float) -> Tensor:  # bool [1, H, W] -> bool [1, H, W]
    """The head and what is around it up to `rim` of the picture's side, but for the body."""
    reach = round(rim * head.shape[-1])
    if reach:
        head = F.max_pool2d(head[None].float(), 2 * reach + 1, 1, reach)[0] > 0.5
    return head & ~body


def outline(model: HeadModel, vertices: Tensor, hair_reach_m: float) -> Tensor:  # [V, 3] -> [n, 3] m
    """Points whose hull is the head from the jaw up, the scalp also moved out by `hair_reach_m`."""
    named = {name: mask.cpu() for name, mask in model.regions.items()}
    above, scalp = ~(named["neck"] | named["boundary"]), named["scalp"]
    out = vertices + hair_reach_m * vertex_normals(vertices, model.faces.cpu())
    return torch.cat([vertices[above], out[above & scalp]])


def hull_mask(points: Tensor, where: Similarity, camera: Camera) -> Tensor:  # [n, 3] m -> [1, H, W]
    """1 inside the convex hull of the points (in the head's frame), as the camera of the world sees them."""
    pixels = where.seen_by(camera).project(points)[0].numpy().astype(np.float32)
    canvas = np.zeros((camera.height, camera.width), np.uint8)
    # pixel centres are at +0.5 here and at integers in OpenCV
    corners = cv2.convexHull(pixels - 0.5)
    cv2.fillConvexPoly(canvas, np.round(corners).astype(np.int32), 1)
    return torch.from_numpy(canvas)[None].float()


def box_around(mask: Tensor, margin: int, least: int) -> tuple[slice, slice]:  # [1, H, W]
    """Rows and columns of the mask's pixels and `margin` around them, at least `least` px where there are."""
    slices = []
    for axis, length in ((2, mask.shape[1]), (1, mask.shape[2])):
        hit = torch.nonzero(mask[0].any(axis - 1)).flatten()
        low, high = int(hit.min()) - margin, int(hit.max()) + 1 + margin
        short = max(0, least - (high - low))
        low, high = low - short // 2, high + short - short // 2
        if low < 0:
            low, high = 0, high - low
        if high > length:
            low, high = max(0, low - (high - length)), length
        slices.append(slice(low, min(high, length)))
    return slices[0], slices[1]


def named(region: str, row: Mapping[str, float]) -> dict[str, float]:
    """A region's numbers as columns of the picture's row: "head.psnr"."""
    return {f"{region}.{name}": value for name, value in row.items()}
