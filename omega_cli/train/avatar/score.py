"""How good the avatars of held-out people are, by what is seen, and pictures of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.geometry.camera import Camera
from omega_cli.metrics.lpips import Lpips
from omega_cli.model import Avatar, OmegaModel
from omega_cli.train.avatar.objective import face_box
from omega_cli.train.avatar.pool import Member, avatar_of
from omega_cli.train.avatar.samples import DRIVEN, NOVEL, SOURCE

GROUPS = ("source", "front", "side", "back", "driven")
FRONT, SIDE = 45.0, 135.0  # degrees of azimuth up to which a novel view is one
SHOWN = 256  # px of a picture in a sheet
COLUMNS = ("source", "truth", "analytic", "raw", "refined")


def group_of(kind: int, camera: Camera) -> str:
    """One of GROUPS. Heads stand in the views' frame, so a novel camera's place tells its azimuth."""
    if kind != NOVEL:
        return "source" if kind == SOURCE else "driven"
    x, _, z = (-camera.viewmat[:3, :3].T @ camera.viewmat[:3, 3]).tolist()
    azimuth = abs(math.degrees(math.atan2(x, z)))
    return "front" if azimuth <= FRONT else "side" if azimuth <= SIDE else "back"


def truth(member: Member, index: int) -> tuple[Tensor, Tensor]:
    """A target's picture on white [3, H, H] and where it is known [1, H, H], both in [0, 1]."""
    rgba = member.sample.targets.rgba[index].float() / 255
    return rgba[:3] * rgba[3:] + 1 - rgba[3:], member.sample.targets.known[index].float() / 255


@torch.no_grad()
def score(model: OmegaModel, members: Sequence[Member], lpips: Lpips | None) -> dict[str, Any]:
    """{"raw" | "refined": {"psnr" | "lpips" | "lpips_face": {group: mean, ..., "all": mean}}}.

    psnr: dB, of the mean square error where the truth is known; lpips: LPIPS-Alex of the whole picture;
    lpips_face: of the box around the face, for source and driven pictures. Without lpips: psnr alone.
    """
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for member in members:
        avatar, _ = avatar_of(model, member)
        targets = member.sample.targets
        points = member.seen(model.head).points
        for index, kind in enumerate(member.kinds):
            camera = targets.camera(index)
            group = group_of(kind, camera)
            raw, refined = drawn(model, avatar, member, index)
            wanted, known = truth(member, index)
            box = face_box(points[index], camera.width) if kind in (SOURCE, DRIVEN) else None
            for name, image in (("raw", raw), ("refined", refined)):
                shown = image.clamp(0, 1) * known + wanted * (1 - known)
                for measure, value in _measures(shown, wanted, known, box, lpips).items():
                    found.setdefault((name, measure), {}).setdefault(group, []).append(value)
    out: dict[str, Any] = {}
    for (name, measure), groups in found.items():
        means = {g: round(sum(groups[g]) / len(groups[g]), 4) for g in GROUPS if g in groups}
        every = [value for values in groups.values() for value in values]
        out.setdefault(name, {})[measure] = means | {"all": round(sum(every) / len(every), 4)}
    return out


def _measures(
    image: Tensor, wanted: Tensor, known: Tensor, box: tuple[int, int, int, int] | None, lpips: Lpips | None
) -> dict[str, float]:
    error = (image - wanted).square().sum() / (3 * known.sum()).clamp_min(1)
    values = {"psnr": -10 * math.log10(max(1e-8, float(error)))}
    if lpips is not None:
        values["lpips"] = float(lpips.distance(image[None], wanted[None])[0])
        if box is not None:
            rows, columns = slice(*box[:2]), slice(*box[2:])
            parts = [t[None, :, rows, columns] for t in (image, wanted)]
            a, b = (F.interpolate(part, (128, 128), mode="bilinear", antialias=True) for part in parts)
            values["lpips_face"] = float(lpips.distance(a, b)[0])
    return values


def judged(row: dict[str, Any]) -> float:
    """One number, lower is better, by which the best weights are kept: LPIPS of all refined pictures, or
    where that is not installed the negative PSNR."""
    refined = row["refined"]
    return refined["lpips"]["all"] if "lpips" in refined else -refined["psnr"]["all"]


def drawn(model: OmegaModel, avatar: Avatar, member: Member, index: int) -> tuple[Tensor, Tensor]:
    """A target's picture on white as the model draws it, raw and refined, [3, H, H] each."""
    camera, white = member.sample.targets.camera(index), torch.ones(1, 3, device=avatar.corners.device)
    table = member.standing(model.head).tables[1 + index]
    picture = model.draw(model.posed(avatar, table[None]), [camera], white)
    return picture.raw[0], picture.refined[0]


@torch.no_grad()
def rows(model: OmegaModel, base: OmegaModel, members: Sequence[Member]) -> list[Tensor]:
    """Pictures of COLUMNS, of each member: a novel view and, where there is one, a driven frame."""
    out: list[Tensor] = []
    for member in members:
        kinds = member.kinds
        chosen = [kinds.index(kind) for kind in (NOVEL, DRIVEN) if kind in kinds] or [0]
        source, _ = truth(member, kinds.index(SOURCE))
        learned, plain = (avatar_of(net, member)[0] for net in (model, base))
        for index in chosen:
            wanted, _ = truth(member, index)
            analytic, _ = drawn(base, plain, member, index)
            pictures = source, wanted, analytic, *drawn(model, learned, member, index)
            out += [_small(image) for image in pictures]
    return out


def _small(image: Tensor) -> Tensor:  # [3, H, H] -> on the CPU, SHOWN px at most
    image = image.clamp(0, 1)
    if image.shape[-1] > SHOWN:
        image = F.interpolate(image[None], (SHOWN, SHOWN), mode="area")[0]
    return image.cpu()
