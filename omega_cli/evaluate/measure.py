"""One avatar against the truth of one instant: place it, draw it for each camera, compare."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from omega_cli.evaluate.alignment import LEAST_VIEWS, Similarity, azimuth_elevation, similarity, triangulate
from omega_cli.evaluate.frames import View, compose
from omega_cli.evaluate.protocol import Protocol
from omega_cli.gaussians.model import Gaussians
from omega_cli.gaussians.splat import render
from omega_cli.geometry.camera import Camera
from omega_cli.head.landmarks import embed
from omega_cli.metrics.psnr import psnr
from omega_cli.metrics.ssim import ssim
from omega_cli.render.film import to_bytes
from omega_cli.render.rig import Rig

LANDMARKS = "mediapipe478"
SOLID = 5  # px of the truth's mask that count as its rim, where a hole is no hole but an outline

PictureMetric = Callable[[Tensor, Tensor], Tensor]  # [1, 3, H, W] twice -> [1]


class NotPlaced(Exception):
    """The face was found in too few pictures to say where the head is."""


@dataclass(frozen=True)
class Compared:
    """One camera: its row of numbers, and both pictures [3, H, W] as they were compared."""

    row: dict[str, object]
    render: Tensor
    truth: Tensor


@dataclass(frozen=True)
class Sighting:
    """A face found by one camera: points [478, 2] px."""

    camera: Camera
    points: Tensor


def matted(view: View, cut_out: Callable[[np.ndarray], np.ndarray]) -> View:
    """The view with a mask where it has none: `cut_out` of rgb bytes [H, W, 3], [H, W] in [0, 1], asked once.

    What the view did not measure (its `seen`) stays out of the mask.
    """

    @functools.cache
    def mask() -> Tensor:
        own = view.mask()
        if own is not None:
            return own
        found = torch.from_numpy(cut_out(to_bytes(view.image()))).float()[None].clamp(0, 1)
        seen = view.seen()
        return found if seen is None else found * seen

    return replace(view, mask=mask)


def sightings(views: Sequence[View], find: Callable[[np.ndarray], np.ndarray | None]) -> list[Sighting]:
    """The views in which `find` (rgb bytes [H, W, 3] -> points [478, 2] px or None) sees the face."""
    seen = []
    for view in views:
        points = find(to_bytes(view.image()))
        if points is not None:
            seen.append(Sighting(view.camera, torch.from_numpy(points)))
    return seen


def place(rig: Rig, seen: Sequence[Sighting]) -> tuple[Similarity, float]:
    """Where the avatar's head stands in the cameras' world, and the RMS distance (m) of the landmarks there.

    Raises NotPlaced where fewer than two pictures show a face.
    """
    if len(seen) < LEAST_VIEWS:
        raise NotPlaced(f"the face was found in {len(seen)} pictures only")
    embedding = rig.head.landmarks[LANDMARKS]
    valid = embedding.valid.cpu()
    in_world = triangulate([sight.points[valid] for sight in seen], [sight.camera for sight in seen])[0]
    on_head = embed(rig.vertices(rig.params)[0], rig.head.faces, embedding).cpu()[valid]
    found = similarity(on_head, in_world)
    return found, float((found(on_head) - in_world).square().sum(1).mean().sqrt())


def compare(
    posed: Gaussians, where: Similarity, view: View, protocol: Protocol, metrics: Mapping[str, PictureMetric]
) -> Compared:
    """Draw the avatar, posed in its own frame, for one camera and compare with its picture."""
    camera = where.seen_by(view.camera)
    drawn = render(posed, camera.to(posed.means.device))
    image, alpha = drawn.image.cpu().clamp(0, 1), drawn.alpha.cpu().clamp(0, 1)
    mask = view.mask()
    truth = compose(view.image(), mask, protocol.background)
    if protocol.background == "white":
        image = image + (1 - alpha)
    seen = view.seen()
    if seen is not None:
        image, truth = image * seen, truth * seen
    azimuth, elevation = azimuth_elevation(camera)
    row: dict[str, object] = {
        "camera": camera.id, "azimuth": round(azimuth, 2), "elevation": round(elevation, 2)
    }  # fmt: skip
    pair = image[None].clamp(0, 1), truth[None].clamp(0, 1)
    row["psnr"] = float(psnr(*pair))
    row["ssim"] = float(
        ssim(*pair, window=protocol.ssim_window, sigma=protocol.ssim_sigma, grey=protocol.ssim_grey)
    )
    row |= {name: float(metric(*pair)) for name, metric in metrics.items()}
    if mask is not None:
        row |= completeness(alpha, mask[0])
    return Compared(row, pair[0][0], pair[1][0])


def completeness(alpha: Tensor, mask: Tensor) -> dict[str, float]:  # [H, W] each
    """Overlap of the silhouettes (IoU), and the share of the truth's inside that the avatar leaves open."""
    avatar, person = alpha > 0.5, mask > 0.5
    union = (avatar | person).sum().clamp_min(1)
    inside = -F.max_pool2d(-person[None, None].float(), 2 * SOLID + 1, 1, SOLID)[0, 0] > 0.5
    # what lies below the avatar's own lower end is body, which no head avatar has
    rows = torch.nonzero(avatar.any(1)).flatten()
    inside[int(rows.max()) + 1 if len(rows) else 0 :] = False
    holes = (inside & ~avatar).sum() / inside.sum().clamp_min(1)
    return {"silhouette_iou": float((avatar & person).sum() / union), "holes": float(holes)}
