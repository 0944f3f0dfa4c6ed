"""What the avatar network is trained for: eq. 8 and 9 of the paper's supplement, term by term."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.decode.residual import Change
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
    """A true picture: rgb [3, H, W] over the background that was drawn on; known [1, H, W] in [0, 1]; the box
    around the face, or None where it is not seen; points [68, 2] px: the avatar's landmarks."""

    rgb: Tensor
    known: Tensor
    box: Box | None
    points: Tensor


def face_box(points: Tensor, size: int, margin: float = 0.15) -> Box | None:  # [L, 2] px
    """The square around landmarks, a margin wider; None when most of it lies outside the picture."""
    low, high = points.amin(0), points.amax(0)
    half = float((high - low).amax()) * (0.5 + margin)
    x, y = ((low + high) / 2).tolist()
    box = (int(y - half), int(y + half) + 1, int(x - half), int(x + half) + 1)
    inside = tuple(min(size, max(0, v)) for v in box)
    area = (inside[1] - inside[0]) * (inside[3] - inside[2])
    return inside if area > 0.6 * (2 * half) ** 2 and area > 64 else None  # type: ignore[return-value]


def difference(image: Tensor, wanted: Tensor, known: Tensor) -> Tensor:  # [3, H, W] twice, [1, H, W]
    """Mean absolute error where the truth is known."""
    return ((image - wanted).abs() * known).sum() / (3 * known.sum()).clamp_min(1)


def cut(image: Tensor, box: Box) -> Tensor:  # [C, H, W] -> [1, C, LOOK, LOOK]
    part = image[None, :, box[0] : box[1], box[2] : box[3]]
    return F.interpolate(part, (LOOK, LOOK), mode="bilinear", antialias=True)


def target_terms(
    drawn: Drawn,
    wanted: Wanted,
    perceptual: Callable[[Tensor, Tensor], Tensor] | None,
    identity: Callable[[Tensor, Tensor, Tensor], Tensor] | None,
) -> dict[str, Tensor]:
    """The terms of one target: raw, refined, box (eq. 8), perc and identity (eq. 9).

    The perceptual network sees the whole picture and the face, the identity network the face, refined.
    """
    terms = {
        "raw": difference(drawn.raw, wanted.rgb, wanted.known),
        "refined": difference(drawn.refined, wanted.rgb, wanted.known),
    }
    zero = terms["raw"].new_zeros(())
    terms["box"] = zero
    if wanted.box is not None:
        rows, columns = slice(*wanted.box[:2]), slice(*wanted.box[2:])
        parts = (t[:, rows, columns] for t in (drawn.raw, wanted.rgb, wanted.known))
        refined = drawn.refined[:, rows, columns]
        raw, truth, known = parts
        terms["box"] = difference(raw, truth, known) + difference(refined, truth, known)
    terms["perc"] = terms["identity"] = zero
    seen = drawn.refined * wanted.known + wanted.rgb * (1 - wanted.known)
    if identity is not None and wanted.box is not None:
        points = five_points(wanted.points)[None]
        terms["identity"] = identity(seen[None], wanted.rgb[None], points)[0]
    if perceptual is not None:
        height, width = drawn.refined.shape[-2:]
        boxes: list[Box] = [(0, height, 0, width)] + ([wanted.box] if wanted.box is not None else [])
        pairs = [torch.cat([cut(image, box) for box in boxes]) for image in (seen, wanted.rgb)]
        terms["perc"] = perceptual(pairs[0], pairs[1]).mean()
    return terms


def local_term(changes: tuple[Change, Change]) -> Tensor:
    """L_local: how far UV Gaussians leave the surface and how much any Gaussian grows or shrinks."""
    on_texels, at_vertices = changes
    shift = on_texels.shift()
    total = on_texels.growth().square().mean() + at_vertices.growth().square().mean()
    return total if shift is None else total + shift.square().sum(1).mean()


def total(terms: dict[str, Tensor], lambdas: Lambdas, mv: float) -> Tensor:
    """Eq. 9: L_rec + lambda_perc L_perc + lambda_mv L_mv + lambda_local L_local."""
    reconstruction = terms["raw"] + terms["refined"] + lambdas.box * terms["box"]
    looks = lambdas.perc * terms["perc"] + lambdas.identity * terms["identity"]
    return reconstruction + looks + mv * terms["mv"] + lambdas.local * terms["local"]
