"""One avatar against the truth of one instant: place it, draw it for each camera, compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from omega_cli.evaluate import regions
from omega_cli.evaluate.alignment import LEAST_VIEWS, azimuth_elevation, triangulate, wide_enough
from omega_cli.evaluate.frames import Pictures, View, compose
from omega_cli.evaluate.protocol import Protocol
from omega_cli.gaussians.model import Gaussians
from omega_cli.geometry.camera import Camera
from omega_cli.geometry.similarity import Similarity, similarity
from omega_cli.head.landmarks import embed
from omega_cli.metrics.psnr import psnr
from omega_cli.metrics.ssim import ssim
from omega_cli.render.film import to_bytes
from omega_cli.render.rig import Rig

LANDMARKS = "mediapipe478"
SOLID = 5  # px of the truth's mask that count as its rim, where a hole is no hole but an outline
SIDE_DEG = 60.0  # beyond it half of the face is guessed: two heads of 34 were placed 10 degrees off  # ours
MARGIN = 16  # px around a region that a network still sees (black but for the region)
SMALLEST = 64  # px, the least side of such a cut-out

Masked = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # [1, 3, H, W] twice, [1, 1, H, W] -> [1]
Whole = Callable[[Tensor, Tensor], Tensor]
Find = Callable[[np.ndarray], np.ndarray | None]  # rgb bytes [H, W, 3] -> points [478, 2] px
CutOut = Callable[[np.ndarray], np.ndarray]  # rgb bytes [H, W, 3] -> [H, W] in [0, 1]


class NotPlaced(Exception):
    """The face was found in too few pictures to say where the head is."""


@dataclass(frozen=True)
class Networks:
    """Metrics by column name: `masked` also know regions; `whole` look for a face or at the whole picture."""

    masked: Mapping[str, Masked] = field(default_factory=dict)
    whole: Mapping[str, Whole] = field(default_factory=dict)


@dataclass(frozen=True)
class Compared:
    """One camera: its row of numbers, and both pictures [3, H, W] as they were compared."""

    row: dict[str, object]
    render: Tensor
    truth: Tensor


@dataclass(frozen=True, eq=False)
class Truth:
    """One camera's picture, kept for all variants: half precision (2e-4 in [0.5, 1]) is finer than its bytes.

    over [3, H, W] over the background; mask [1, H, W] or None; seen likewise; labels [1, H, W] or None;
    points [478, 2] px of the face where one was found.
    """

    camera: Camera
    over: Tensor
    mask: Tensor | None
    seen: Tensor | None
    labels: Tensor | None
    points: Tensor | None

    @staticmethod
    def of(view: View, background: str, find: Find, cut_out: CutOut | None = None) -> Truth:
        """Read the view once; `cut_out` makes the mask where the view has none."""
        pictures = matted(view.read(background), background, cut_out)
        points = find(to_bytes(pictures.image))
        seen = pictures.seen
        return Truth(
            view.camera,
            pictures.over.half(),
            None if pictures.mask is None else pictures.mask.half(),
            None if seen is None or bool((seen == 1).all()) else seen.half(),
            None if pictures.labels is None else pictures.labels.to(torch.uint8),
            None if points is None else torch.from_numpy(points),
        )


def matted(pictures: Pictures, background: str, cut_out: CutOut | None) -> Pictures:
    """With a mask where there is none. What was not measured (`seen`) stays out of the mask."""
    if pictures.mask is not None or cut_out is None:
        return pictures
    mask = torch.from_numpy(cut_out(to_bytes(pictures.image))).float()[None].clamp(0, 1)
    mask = mask if pictures.seen is None else mask * pictures.seen
    return replace(pictures, mask=mask, over=compose(pictures.image, mask, background))


def place(rig: Rig, truths: Sequence[Truth]) -> tuple[Similarity, float]:
    """Where the avatar's head stands in the cameras' world, and the RMS distance (m) of the landmarks there.

    A landmark network guesses what it does not see: cameras that turn out to look at the face from more than
    SIDE_DEG are left out and the rest place the head again, where they can.
    Raises NotPlaced where fewer than two pictures show a face.
    """
    seen = [(truth.points, truth.camera) for truth in truths if truth.points is not None]
    if len(seen) < LEAST_VIEWS:
        raise NotPlaced(f"the face was found in {len(seen)} pictures only")
    embedding = rig.head.landmarks[LANDMARKS]
    valid = embedding.valid.cpu()
    on_head = embed(rig.vertices(rig.params)[0], rig.head.faces, embedding).cpu()[valid]
    while True:
        in_world = triangulate([points[valid] for points, _ in seen], [camera for _, camera in seen])[0]
        found = similarity(on_head, in_world)
        near = [one for one in seen if _off_face_deg(found.seen_by(one[1])) <= SIDE_DEG]
        if len(near) == len(seen) or not wide_enough([camera for _, camera in near]):
            return found, float((found(on_head) - in_world).square().sum(1).mean().sqrt())
        seen = near


def _off_face_deg(camera: Camera) -> float:
    """Degrees between where a camera, in the head's frame, looks from and where the face looks to."""
    return float(torch.rad2deg(torch.acos((-camera.forward[2]).clamp(-1, 1))))


def regions_of(truth: Truth, rig: Rig, where: Similarity, protocol: Protocol) -> dict[str, Tensor]:
    """Masks [1, H, W] of the protocol's regions; rig and where: of the full pipeline, for all variants."""
    if truth.labels is not None:
        return regions.by_labels(truth.labels, protocol)
    if truth.mask is None:
        return {}
    vertices = rig.vertices(rig.params)[0].cpu()
    points = regions.outline(rig.head, vertices, protocol.hair_reach_m)
    return regions.by_hull(truth.mask, regions.hull_mask(points, where, truth.camera), protocol)


def compare(
    rig: Rig, posed: Gaussians, where: Similarity, truth: Truth, masks: Mapping[str, Tensor],
    protocol: Protocol, networks: Networks,
) -> Compared:  # fmt: skip
    """Draw the avatar, posed in its own frame, for one camera and compare with its picture."""
    camera = where.seen_by(truth.camera)
    drawn = rig.draw(posed, camera.to(posed.means.device))
    image, alpha = drawn.image.cpu().clamp(0, 1), drawn.alpha.cpu().clamp(0, 1)
    if protocol.background == "white":
        image = image + (1 - alpha)
    over = truth.over.float()
    if truth.seen is not None:
        image, over = image * truth.seen, over * truth.seen
    azimuth, elevation = azimuth_elevation(camera)
    row: dict[str, object] = {
        "camera": camera.id, "azimuth": round(azimuth, 2), "elevation": round(elevation, 2)
    }  # fmt: skip
    pair = image[None].clamp(0, 1), over[None].clamp(0, 1)
    row |= distances(*pair, None, protocol, networks.masked)
    row |= {name: float(metric(*pair)) for name, metric in networks.whole.items()}
    person = None if truth.mask is None else truth.mask[0].float()
    if person is not None:
        row |= completeness(alpha, person)
    for name, mask in masks.items():
        rows, columns = regions.box_around(mask > 0, MARGIN, SMALLEST)
        cut = [picture[..., rows, columns] for picture in (*pair, mask[None])]
        row |= regions.named(name, distances(cut[0], cut[1], cut[2], protocol, networks.masked))
    if person is not None and "head" in masks:
        # the region goes on beyond the head's edge: there the avatar may stand out, the truth is empty
        inside = masks["head"][0] > 0
        row |= regions.named("head", completeness(alpha * inside, person * inside))
    return Compared(row, pair[0][0], pair[1][0])


def distances(
    image: Tensor, truth: Tensor, mask: Tensor | None, protocol: Protocol, networks: Mapping[str, Masked]
) -> dict[str, float]:  # [1, 3, H, W] twice, [1, 1, H, W]
    """PSNR, SSIM and the networks' distances, on the mask where there is one."""
    window = {"window": protocol.ssim_window, "sigma": protocol.ssim_sigma, "grey": protocol.ssim_grey}
    row = {"psnr": float(psnr(image, truth, mask)), "ssim": float(ssim(image, truth, mask, **window))}  # type: ignore[arg-type]
    return row | {name: float(network(image, truth, mask)) for name, network in networks.items()}


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
