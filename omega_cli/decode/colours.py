"""The complete canonical texture: what was seen, and a sensible guess for what was not."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from omega_cli.decode.eyes import complete_eyeball
from omega_cli.decode.lids import LUMINANCE, lid_donors, unfolding
from omega_cli.decode.mouth import inner_colour
from omega_cli.decode.texture import (
    close_gaps,
    complete_skin,
    fill_unseen,
    gap_radius,
    mirrored_uvs,
    seen_share,
    smoothed,
)
from omega_cli.head.model import HeadModel
from omega_cli.head.parts import PARTS, face_parts

LID_BLUR = 1  # ours, steps of [1 2 1] on a 256 map
LID_SWAP = 0.95  # ours: how much of a lash line drawn out by a blink gives way to skin
USUAL_SKIN = 0.55  # ours: luminance of well-lit skin, the light for which the fixed colours were chosen


@dataclass(frozen=True)
class Texels:
    """The N covered texels of the UV layout: their (row, column) [N, 2], face, barycentrics and part [N]."""

    place: Tensor
    face_index: Tensor
    barycentric: Tensor
    part: Tensor

    @staticmethod
    def of(model: HeadModel, face_index: Tensor, barycentric: Tensor) -> Texels:
        covered = face_index >= 0
        faces = face_index[covered]
        return Texels(covered.nonzero(), faces, barycentric[covered], face_parts(model)[faces])

    def points(self, vertices: Tensor, faces: Tensor) -> Tensor:  # -> [N, 3]
        return (vertices[faces[self.face_index]] * self.barycentric[..., None]).sum(1)

    def read(self, image: Tensor) -> Tensor:  # [C, R, R] -> [N, C]
        return image[:, self.place[:, 0], self.place[:, 1]].T

    def write(self, values: Tensor, size: int) -> Tensor:  # [N, C] -> [C, R, R], zeros elsewhere
        image = values.new_zeros(values.shape[1], size, size)
        image[:, self.place[:, 0], self.place[:, 1]] = values.T
        return image


def light_of(rgb: Tensor, share: Tensor) -> float:  # [N, 3], [N] -> about 0.6 to 1.1
    """How bright the photo's light is, judged by the face's skin; damped, as skin itself may be dark."""
    luminance = (rgb @ rgb.new_tensor(LUMINANCE))[share > 0.5]
    if len(luminance) == 0:
        return 1.0
    return float((luminance.median() / USUAL_SKIN).clamp(0.01).sqrt().clamp(0.6, 1.1))


def complete_texture(
    model: HeadModel,
    vertices: Tensor,  # [V, 3] m, canonical
    eye_centres: Tensor,  # [2, 3] m, left and right
    rgb: Tensor,  # [3, R, R], fused
    weight: Tensor,  # [1, R, R], what splat-uv saw
    face_index: Tensor,  # [R, R], -1 empty
    barycentric: Tensor,  # [R, R, 3]
) -> Tensor:  # [3, R, R]
    """Every covered texel coloured; the gutters between islands continue their neighbours.

    Skin and hair come from the photo, the other side or the neighbours (`complete_skin`); eyeballs are
    completed around the iris that the photo shows; the mouth's parts get the photo's texels or fixed colours.
    """
    texels = Texels.of(model, face_index, barycentric)
    rgb = rgb.clamp(0, 1)
    part = torch.full_like(face_index, -1)
    part[face_index >= 0] = texels.part
    share = seen_share(weight)
    mirror = None
    if model.mirror_index is not None:
        mirror = mirrored_uvs(
            model.faces, model.uvs, model.uv_faces, model.mirror_index, face_index, barycentric
        )
    closed_rgb, closed = close_gaps(rgb, share * (part == 0), gap_radius(rgb.shape[-1]))
    rgb, share = (torch.where(part == 0, new, old) for new, old in ((closed_rgb, rgb), (closed, share)))
    seen, own, points = texels.read(share)[:, 0], texels.read(rgb), texels.points(vertices, model.faces)
    on_skin, balls = texels.part == 0, (texels.part == 1) | (texels.part == 2)
    donor, rim = torch.ones_like(seen), torch.zeros_like(seen)
    if bool(balls.any()):
        to_ball = (points[balls, None] - eye_centres).norm(dim=-1).amin(1)
        donor[on_skin], rim[on_skin] = lid_donors(
            own[on_skin] @ own.new_tensor(LUMINANCE),
            seen[on_skin],
            points[on_skin],
            eye_centres,
            float(to_ball.median()),
        )
    # Seen, but only as a dark line that a blink would draw out over the whole lid.
    squeezed = unfolding(model, vertices)[texels.face_index] * (1 - donor) * on_skin
    squeezed, donor, rim = texels.write(torch.stack([squeezed, donor, rim], 1), rgb.shape[-1])
    # Texel by texel its edge would be ragged, and a blink magnifies it.
    steps = max(1, round(LID_BLUR * (rgb.shape[-1] / 256) ** 2))
    trusted = 1 - LID_SWAP * smoothed(squeezed, part == 0, steps)
    skin = complete_skin(rgb, share * trusted, part == 0, mirror, donor, rim)
    colour = texels.read(skin)
    face = model.regions.get("face")
    on_face = on_skin if face is None else on_skin & face[model.faces[texels.face_index, 0]]
    light = light_of(own[on_face], seen[on_face])
    lips = model.regions.get("lips")
    front = vertices[lips if lips is not None else slice(None), 2].max()
    for number, name in enumerate(PARTS):
        mine = texels.part == number
        if name in ("skin", "lashes") or not bool(mine.any()):
            continue
        if name in ("left_eye", "right_eye"):
            around = points[mine] - eye_centres[int(name == "right_eye")]
            colour[mine], _ = complete_eyeball(around, own[mine], seen[mine], light)
            continue
        guess = inner_colour(name, front - points[mine, 2], light)
        trust = seen[mine, None]
        colour[mine] = own[mine] * trust + guess * (1 - trust)
    full = texels.write(colour, rgb.shape[-1])
    return fill_unseen(full, (face_index >= 0)[None].to(full))
