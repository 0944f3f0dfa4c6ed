"""What the avatar network is trained for: eq. 8 and 9 of the paper's supplement, term by term."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.metrics.alignment import five_points
from omega_cli.model import Drawn

Box = tuple[int, int, int, int]  # rows from, to; columns from, to, px
LOOK = 192  # px at which the perceptual network sees a box


@dataclass(frozen=True)
class Lambdas:
    """Weights of eq. 8 and 9. The paper gives none: ours (box and perc after GAGAvatar). Its L_perc is
    perc and identity together."""

    box: float = 1.0
    perc: float = 0.25
    identity: float = 0.1
    local: float = 1e-2


@dataclass(frozen=True)
class Wanted:
    """T true pictures: rgb [T, 3, H, W] over the background that was drawn on; known [T, 1, H, W] in [0, 1];
    looks: the square of each that the perceptual network sees; boxes: around each face, or None where it is
    not seen; points [T, 68, 2] px: the avatar's landmarks."""

    rgb: Tensor
    known: Tensor
    looks: Sequence[Box]
    boxes: Sequence[Box | None]
    points: Tensor


def random_look(extent: Box, size: int, generator: torch.Generator) -> Box:
    """A square around some point of the head's extent, inside the picture of `size` px: from LOOK px, which
    shows hair as finely as it is drawn, to the whole head, even in the logarithm of the side."""
    top, bottom, left, right = extent
    smallest = min(LOOK, size)
    largest = min(size, max(smallest, bottom - top, right - left))
    u, v, w = torch.rand(3, generator=generator).tolist()
    side = round(smallest * (largest / smallest) ** u)
    row, column = (min(max(0, round(centre - side / 2)), size - side)
                   for centre in (top + v * (bottom - top), left + w * (right - left)))  # fmt: skip
    return row, row + side, column, column + side


def face_box(points: Tensor, size: int, margin: float = 0.15) -> Box | None:  # [L, 2] px
    """The square around landmarks, a margin wider; None when most of it lies outside the picture."""
    low, high = points.amin(0), points.amax(0)
    half = float((high - low).amax()) * (0.5 + margin)
    x, y = ((low + high) / 2).tolist()
    box = (int(y - half), int(y + half) + 1, int(x - half), int(x + half) + 1)
    inside = tuple(min(size, max(0, v)) for v in box)
    area = (inside[1] - inside[0]) * (inside[3] - inside[2])
    return inside if area > 0.6 * (2 * half) ** 2 and area > 64 else None  # type: ignore[return-value]


def difference(image: Tensor, wanted: Tensor, known: Tensor) -> Tensor:  # [..., 3 and 1, H, W] -> [...]
    """Mean absolute error of each picture where the truth is known."""
    part = ((image - wanted).abs() * known).sum((-3, -2, -1))
    return part / (3 * known.sum((-3, -2, -1))).clamp_min(1)


def cut(image: Tensor, box: Box) -> Tensor:  # [C, H, W] -> [1, C, LOOK, LOOK]
    part = image[None, :, box[0] : box[1], box[2] : box[3]]
    return F.interpolate(part, (LOOK, LOOK), mode="bilinear", antialias=True)


def target_terms(
    drawn: Drawn,
    wanted: Wanted,
    perceptual: Callable[[Tensor, Tensor], Tensor] | None,
    identity: Callable[[Tensor, Tensor, Tensor], Tensor] | None,
) -> dict[str, Tensor]:
    """Means over the targets of raw, refined, box (eq. 8), perc and identity (eq. 9).

    The perceptual network sees a look at each picture and the face, the identity network the face, refined.
    """
    count = len(drawn.raw)
    terms = {
        "raw": difference(drawn.raw, wanted.rgb, wanted.known).mean(),
        "refined": difference(drawn.refined, wanted.rgb, wanted.known).mean(),
    }
    terms["box"] = terms["perc"] = terms["identity"] = terms["raw"].new_zeros(())
    boxes = [(k, box) for k, box in enumerate(wanted.boxes) if box is not None]
    for k, (top, bottom, left, right) in boxes:
        part = (k, slice(None), slice(top, bottom), slice(left, right))
        truth, known = wanted.rgb[part], wanted.known[part]
        raw, refined = (difference(image[part], truth, known) for image in (drawn.raw, drawn.refined))
        terms["box"] = terms["box"] + (raw + refined) / count
    seen = drawn.refined * wanted.known + wanted.rgb * (1 - wanted.known)
    if identity is not None and boxes:
        faces = [k for k, _ in boxes]
        points = five_points(wanted.points[faces])
        terms["identity"] = identity(seen[faces], wanted.rgb[faces], points).sum() / count
    if perceptual is not None:
        looks = [*enumerate(wanted.looks), *boxes]
        pairs = [torch.cat([cut(images[k], box) for k, box in looks]) for images in (seen, wanted.rgb)]
        distances = perceptual(*pairs)
        for distance, (k, _) in zip(distances.unbind(), looks, strict=True):  # a target is its looks' mean
            terms["perc"] = terms["perc"] + distance / (count * (1 + (wanted.boxes[k] is not None)))
    return terms


def total(terms: dict[str, Tensor], lambdas: Lambdas, mv: float) -> Tensor:
    """Eq. 9: L_rec + lambda_perc L_perc + lambda_mv L_mv + lambda_local L_local."""
    reconstruction = terms["raw"] + terms["refined"] + lambdas.box * terms["box"]
    looks = lambdas.perc * terms["perc"] + lambdas.identity * terms["identity"]
    return reconstruction + looks + mv * terms["mv"] + lambdas.local * terms["local"]
