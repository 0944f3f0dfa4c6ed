"""Colour, normal and label of seen samples. Vectors are planes [3, n]: all samples' x, then y, then z."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.data.studio import light as lights
from omega_cli.data.studio.crowd import Crowd, Posed
from omega_cli.data.studio.light import Light
from omega_cli.data.studio.people import HAIR, HEAD, PLAIN
from omega_cli.data.studio.views import Views


@dataclass(frozen=True)
class Scene:
    """Posed people under their lights, to be asked for samples. surface [P * N, 6 + L + 3]: normal, place,
    share of each lamp, ambient; fabric [P * E, 9]: sRGB, tangent, uv of strands and 0; lamps: stacked
    lights, world; K views a person."""

    crowd: Crowd
    posed: Posed
    surface: Tensor
    fabric: Tensor
    lamps: Light
    views: Views
    K: int


def make_scene(crowd: Crowd, posed: Posed, lamps: Light, views: Views, K: int) -> Scene:
    """lamps: `stack_lights`; views: of all people, P * K."""
    own = lamps.rotated(posed.rotation.mT)  # the light in the canonical frame, where shade is known
    canonical = posed.normals @ posed.rotation
    shade = [lights.shadows(own, crowd.visible), lights.ambient(own, canonical, crowd.visible)]
    surface = torch.cat([posed.normals, posed.vertices, *shade], 2).flatten(0, 1)
    extras = crowd.extras
    fabric = torch.cat([extras[..., 9:12], posed.tangents, extras[..., 12:], extras[..., :1] * 0], 2)
    return Scene(crowd, posed, surface, fabric.flatten(0, 1), lamps, views, K)


@dataclass(frozen=True)
class Samples:
    """n samples on faces of one kind. face [n] of all people's; barycentric [n, 3]; person, view [n] (of
    P and of P * K)."""

    face: Tensor
    barycentric: Tensor
    person: Tensor
    view: Tensor


def weighted_rows(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """sum_j weights[i, j] table[rows[i, j]]: table [R, C], rows, weights [n, k] -> [C, n]."""
    if not table.is_cuda:  # a GPU's embedding_bag is slow for small bags, a CPU's the fastest way
        return F.embedding_bag(rows, table, per_sample_weights=weights, mode="sum").T.contiguous()
    out = table.index_select(0, rows[:, 0]) * weights[:, :1]
    for j in range(1, rows.shape[1]):
        out.addcmul_(table.index_select(0, rows[:, j]), weights[:, j : j + 1])
    return out.T.contiguous()


def bilinear(uv: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Four texels [n, 4] (flat) and their weights [n, 4] at uv [2, n], clamped to the border."""
    x = (uv[0] * width - 0.5).clamp_(0, width - 1)
    y = (uv[1] * height - 0.5).clamp_(0, height - 1)
    left, top = x.floor(), y.floor()
    a, b = x - left, y - top
    x0, y0 = left.long(), top.long() * width
    x1, y1 = (x0 + 1).clamp_max_(width - 1), (y0 + width).clamp_max_((height - 1) * width)
    rows = torch.stack([y0 + x0, y0 + x1, y1 + x0, y1 + x1], 1)
    return rows, torch.stack([(1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b], 1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-2)


def unit(v: Tensor) -> Tensor:
    """Planes [3, ...] of length 1; zeros stay."""
    return v * v.square().sum(0).sqrt_().clamp_min_(1e-12).reciprocal_()


def _of(table: Tensor, person: Tensor) -> Tensor:
    """[..., P] at each sample's person [..., n]; [..., 1] of one alone."""
    return table if table.shape[-1] == 1 else table.index_select(-1, person)


def shade(scene: Scene, kind: int, at: Samples) -> tuple[Tensor, Tensor]:
    """[6, n]: developed sRGB and unit world normal; [n] uint8 labels."""
    corners = scene.crowd.corners.index_select(0, at.face)
    values = weighted_rows(scene.surface, corners, at.barycentric)
    eye = scene.views.eyes.index_select(1, at.view)
    view = unit(eye[:3] - values[3:6] * eye[3])
    normal, place = unit(values[:3]), _Place(scene, at, corners, view, values[6:])
    colour, normal, labels = (_head if kind == HEAD else _extra)(place, normal, kind)
    return torch.cat([lights.develop(colour), normal]), labels


Shine = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class _Place:
    """What every kind of surface is lit by: corners [n, 3]; view [3, n]: towards the camera; light
    [L + 3, n]: share of each lamp, ambient."""

    scene: Scene
    at: Samples
    corners: Tensor
    view: Tensor
    light: Tensor

    def lit(self, normal: Tensor, albedo: Tensor, wrap: Tensor | float, shine: Shine | None) -> Tensor:
        """[3, n] linear radiance: ambient, and each lamp's diffuse and shine (of its direction [3, 1 or n]
        and cosine [n]; None: matt)."""
        lamps, person = self.scene.lamps, self.at.person
        out = self.light[-3:] * albedo
        gain = 0.9 * albedo / (1 + wrap)
        for i in range(lamps.directions.shape[1]):
            direction = _of(lamps.directions[:, i].T, person)
            cosine = _dot(normal, direction)
            answer = (cosine + wrap).clamp_min(0) * gain
            if shine is not None:
                answer = answer + shine(direction, cosine)
            out = out.addcmul_(_of(lamps.colours[:, i].T, person) * self.light[i], answer)
        return out


def _head(place: _Place, normal: Tensor, kind: int) -> tuple[Tensor, Tensor, Tensor]:
    """Painted skin, eyes and the cloth on the neck: linear colour, bent normal, labels."""
    scene, at, view = place.scene, place.at, place.view
    crowd, model, size = scene.crowd, scene.crowd.model, scene.crowd.texture_size
    own = at.face - crowd.firsts[at.person] if len(crowd) > 1 else at.face
    uv = weighted_rows(model.uvs, model.uv_faces.index_select(0, own), at.barycentric)
    rows, weights = bilinear(uv, size, size)
    if len(crowd) > 1:
        rows += (at.person * size**2)[:, None]
    texture = weighted_rows(crowd.texels, rows, weights)
    nearest = rows.gather(1, weights.argmax(1, keepdim=True))[:, 0]
    gloss = texture[6]
    turn = _of(scene.posed.rotation.permute(1, 2, 0), at.person)
    normal = unit(normal - (turn * texture[3:6]).sum(1))
    wrap = torch.tensor(lights.SKIN_WRAP, device=view.device)[:, None] * (gloss > 0)
    facing = _dot(normal, view)
    wet = gloss > 2  # eyes: a sharp point; skin: a soft sheen; cloth, of gloss 0, none
    power, strength = torch.where(wet, 260.0, 18.0), 0.9 * torch.where(wet, 1.5, gloss)

    def shine(direction: Tensor, cosine: Tensor) -> Tensor:
        mirror = _dot(normal, unit(view + direction))
        return strength * lights.highlight(mirror, facing, power) * (cosine > 0)

    colour = place.lit(normal, lights.linear_of(texture[:3]), wrap, shine)
    return colour, normal, crowd.face_labels.index_select(0, nearest).to(torch.uint8)


def _extra(place: _Place, normal: Tensor, kind: int) -> tuple[Tensor, Tensor, Tensor]:
    """Hair with its strands, or plain cloth and glasses: linear colour, normal, labels."""
    scene, at, view = place.scene, place.at, place.view
    crowd = scene.crowd
    heads = len(crowd.model.v_template)
    rows = place.corners - heads * (at.person[:, None] + 1 if len(crowd) > 1 else 1)
    values = weighted_rows(scene.fabric, rows, at.barycentric)
    labels = crowd.labels.flatten().index_select(0, place.corners[:, 0])
    back = (_dot(normal, view) - 0.05).clamp_max_(0)
    normal = unit(normal - view * back * 1.2)
    if kind == PLAIN:
        return place.lit(normal, lights.linear_of(values[:3].clamp(0, 1)), 0.0, None), normal, labels
    rows, weights = bilinear(values[6:8].remainder(1.0), *crowd.detail_shape)
    if len(crowd) > 1:
        rows += (at.person * (crowd.detail_shape[0] * crowd.detail_shape[1]))[:, None]
    strands = (crowd.detail[rows] * weights).sum(1)
    albedo = lights.linear_of((values[:3] * torch.exp(0.15 * strands)).clamp_(0, 1))
    tangent, shift = unit(values[3:6]), 0.07 * strands

    def shine(direction: Tensor, cosine: Tensor) -> Tensor:
        half = unit(view + direction)
        white, tinted = lights.strand_highlight(_dot(tangent, half), _dot(normal, half), shift)
        reach = (cosine * 0.5 + 0.5).clamp_(0, 1)
        return 0.045 * white * reach + (0.55 * tinted * reach) * albedo

    return place.lit(normal, albedo, lights.HAIR_WRAP, shine), normal, labels


KINDS = (HEAD, PLAIN, HAIR)
