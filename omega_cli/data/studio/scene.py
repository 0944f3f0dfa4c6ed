"""Pictures of a person: rasterised once at twice the size, shaded per pixel, and averaged down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.data.studio import light as lights
from omega_cli.data.studio.light import Light
from omega_cli.data.studio.people import Person
from omega_cli.geometry.camera import Camera
from omega_cli.geometry.mesh import vertex_normals
from omega_cli.geometry.raster import Fragments, blend, rasterize_views
from omega_cli.head.params import HeadParams

SUPER = 2  # samples along each side of a pixel
SAME_SURFACE = 0.006  # m: samples of a pixel within this of the nearest count for its depth


@dataclass(frozen=True)
class Sample:
    """K views of one moment. rgb [K, 3, H, W] sRGB in [0, 1], straight (not multiplied by alpha), 0 where
    empty; alpha [K, 1, H, W]; normal [K, 3, H, W] unit, world, 0 where empty; depth [K, 1, H, W] m along
    the camera's z, inf where empty; labels [K, H, W] long (PARSING_LABELS); landmarks [K, 68, 2] px;
    landmarks_3d [68, 3] m, world."""

    rgb: Tensor
    alpha: Tensor
    normal: Tensor
    depth: Tensor
    labels: Tensor
    landmarks: Tensor
    landmarks_3d: Tensor


@dataclass(frozen=True)
class Posed:
    """vertices, normals [V, 3] world of the head and, after it, the extras; tangents [E, 3] of the extras;
    rotation [3, 3]: canonical head to world."""

    vertices: Tensor
    normals: Tensor
    tangents: Tensor
    rotation: Tensor


def pose(person: Person, params: HeadParams) -> Posed:
    """Expression and pose of one frame (T = 1; params.betas is not read: a person has their own)."""
    model, extras = person.model, person.extras
    if len(params) != 1:
        raise ValueError(f"a sample is one frame, got params of {len(params)}")
    out = model.animate(person.canonical, params)
    head = out.vertices[0]
    moved = (model.exprdirs[extras.roots].flatten(0, 1) @ params.expression[0]).view(-1, 3)
    affine = torch.einsum("ej,jrc->erc", model.weights[extras.roots], out.affine[0])
    vertices = (affine[:, :, :3] @ (extras.vertices + moved)[..., None])[..., 0] + affine[:, :, 3]
    turn = affine[:, :, :3]
    normals, tangents = ((turn @ v[..., None])[..., 0] for v in (extras.normals, extras.tangents))
    rotation = out.affine[0, 1, :, :3] / params.scale
    return Posed(
        torch.cat([head, vertices]),
        torch.cat([vertex_normals(head, model.faces), F.normalize(normals, dim=-1)]),
        F.normalize(tangents, dim=-1),
        rotation,
    )


def render_sample(
    person: Person,
    params: HeadParams,
    cameras: Sequence[Camera],  # K
    light: Light,
    size: int,
) -> Sample:
    """All of `Sample` for one person at one moment under one light, square views of `size` px."""
    posed, faces = pose(person, params), person.faces
    big = [camera.resized(size * SUPER, size * SUPER) for camera in cameras]
    seen = rasterize_views(posed.vertices, faces, big)
    pixel = torch.nonzero(seen.face_index.flatten() >= 0)[:, 0]
    face = seen.face_index.flatten()[pixel]
    bary = seen.barycentric.reshape(-1, 3)[pixel]
    own = light.rotated(posed.rotation.T)  # the light in the canonical frame, where shade is known
    canonical_normals = posed.normals @ posed.rotation
    shade = torch.cat(
        [lights.shadows(own, person.visible), lights.ambient(own, canonical_normals, person.visible)], 1
    )
    values = blend(torch.cat([posed.normals, posed.vertices, shade], 1), faces, face, bary)
    point = values[:, 3:6]
    view = _towards_camera(point, pixel // (size * SUPER) ** 2, cameras)
    surface = _surface(person, posed, face, bary, F.normalize(values[:, :3], dim=-1), view)
    colour = _shade(surface, light, view, values[:, 6 : 6 + len(light.directions)], values[:, -3:])
    return _average(person, posed, colour, surface, seen, pixel, cameras, size)


@dataclass(frozen=True)
class _Surface:
    """Of n seen samples: albedo [n, 3] linear, normal [n, 3], gloss [n], hair [n] bool, tangent [n, 3] (0
    off the hair), shift [n]: strand noise; labels [n]."""

    albedo: Tensor
    normal: Tensor
    gloss: Tensor
    hair: Tensor
    tangent: Tensor
    shift: Tensor
    labels: Tensor


def _towards_camera(point: Tensor, which: Tensor, cameras: Sequence[Camera]) -> Tensor:
    """[n, 3] unit vectors to each sample's own camera."""
    centres = torch.stack([c.position for c in cameras]).to(point)
    ahead = torch.stack([c.forward for c in cameras]).to(point)
    ortho = torch.tensor([c.model == "ortho" for c in cameras], device=point.device)
    to_centre = F.normalize(centres[which] - point, dim=-1)
    return torch.where(ortho[which, None], -ahead[which], to_centre)


def _lookup(texture: Tensor, uv: Tensor, mode: str = "bilinear") -> Tensor:
    """[C, H, W] at uv [n, 2] -> [n, C]."""
    return F.grid_sample(
        texture[None], (2 * uv - 1)[None, None], mode=mode, align_corners=False, padding_mode="border"
    )[0, :, 0].T


def _surface(
    person: Person, posed: Posed, face: Tensor, bary: Tensor, normal: Tensor, view: Tensor
) -> _Surface:
    """Texture of the head, strand texture of hair, colour of cloth, at the seen samples."""
    model, extras, paint = person.model, person.extras, person.paint
    n, F_head = len(face), len(model.faces)
    albedo, tangent = normal.new_zeros(n, 3), normal.new_zeros(n, 3)
    gloss, shift = normal.new_zeros(n), normal.new_zeros(n)
    labels = torch.zeros(n, dtype=torch.long, device=face.device)
    normal = normal.clone()

    head = torch.nonzero(face < F_head)[:, 0]
    uv = blend(model.uvs, model.uv_faces, face[head], bary[head])
    texture = _lookup(torch.cat([paint.albedo, paint.relief, paint.gloss]), uv)
    albedo[head], gloss[head] = texture[:, :3], texture[:, 6]
    normal[head] = F.normalize(normal[head] - texture[:, 3:6] @ posed.rotation.T, dim=-1)
    labels[head] = _lookup(paint.labels[None].float(), uv, "nearest")[:, 0].long()

    other = torch.nonzero(face >= F_head)[:, 0]
    own_face = face[other] - F_head
    table = torch.cat([extras.colours, posed.tangents, extras.uv, extras.hair[:, None]], 1)
    values = blend(table, extras.faces, own_face, bary[other])
    is_hair = values[:, 8] > 0.5
    strands = _lookup(person.detail, values[:, 6:8].remainder(1.0))[:, 0] * is_hair
    albedo[other] = (values[:, :3] * torch.exp(0.15 * strands)[:, None]).clamp(0, 1)
    tangent[other] = F.normalize(values[:, 3:6], dim=-1) * is_hair[:, None]
    shift[other] = 0.07 * strands
    labels[other] = extras.labels[extras.faces[own_face, 0]]
    facing = (normal[other] * view[other]).sum(-1, keepdim=True)
    normal[other] = F.normalize(normal[other] - view[other] * (facing - 0.05).clamp_max(0) * 1.2, dim=-1)
    hair = torch.zeros(n, dtype=torch.bool, device=face.device)
    hair[other] = is_hair
    return _Surface(lights.linear_of(albedo), normal, gloss, hair, tangent, shift, labels)


def _shade(surface: _Surface, light: Light, view: Tensor, reach: Tensor, around: Tensor) -> Tensor:
    """[n, 3] linear radiance: ambient, and each light's diffuse and shine."""
    wrap = torch.tensor(lights.SKIN_WRAP, device=view.device) * (surface.gloss > 0)[:, None]
    wrap = torch.where(surface.hair[:, None], lights.HAIR_WRAP, wrap)
    out = around * surface.albedo
    bare, hairy = (torch.nonzero(m)[:, 0] for m in (surface.gloss > 0, surface.hair))
    for i in range(len(light.directions)):
        if float(light.colours[i].max()) <= 0:
            continue
        direction, colour = light.directions[i].to(view), light.colours[i].to(view)
        cosine = surface.normal @ direction
        answer = 0.9 * surface.albedo * ((cosine[:, None] + wrap) / (1 + wrap)).clamp_min(0)
        answer[bare] += _skin_shine(surface, view, direction, cosine, bare)[:, None]
        answer[hairy] += _hair_shine(surface, view, direction, cosine, hairy)
        out = out + colour * reach[:, i : i + 1] * answer
    return out * light.exposure


def _skin_shine(surface: _Surface, view: Tensor, direction: Tensor, cosine: Tensor, at: Tensor) -> Tensor:
    """[n] of the samples `at`: a soft sheen on skin, a sharp point on eyes (the glossiest)."""
    normal, gloss, view = surface.normal[at], surface.gloss[at], view[at]
    half = F.normalize(view + direction, dim=-1)
    facing, mirror = (normal * view).sum(-1), (normal * half).sum(-1)
    soft = gloss * lights.highlight(mirror, facing, 18.0)
    wet = 1.5 * lights.highlight(mirror, facing, 260.0)
    return 0.9 * torch.where(gloss > 2, wet, soft) * (cosine[at] > 0)


def _hair_shine(surface: _Surface, view: Tensor, direction: Tensor, cosine: Tensor, at: Tensor) -> Tensor:
    """[n, 3] of the samples `at`: a white and a coloured band across the strands."""
    half = F.normalize(view[at] + direction, dim=-1)
    along, out = (surface.tangent[at] * half).sum(-1), (surface.normal[at] * half).sum(-1)
    white, tinted = lights.strand_highlight(along, out, surface.shift[at])
    lit = (cosine[at] * 0.5 + 0.5).clamp(0, 1)
    return (0.045 * white * lit)[:, None] + (0.55 * tinted * lit)[:, None] * surface.albedo[at]


def _average(
    person: Person,
    posed: Posed,
    colour: Tensor,
    surface: _Surface,
    seen: Fragments,
    pixel: Tensor,
    cameras: Sequence[Camera],
    size: int,
) -> Sample:
    """Samples to pixels: means of colour and normals, the nearest surface's depth, the commonest label."""
    K, big = len(cameras), size * SUPER
    canvas = colour.new_zeros(K * big * big, 6)
    canvas[pixel] = torch.cat([lights.develop(colour), surface.normal], 1)
    mask = (seen.face_index >= 0).float().view(K, 1, big, big)
    alpha = F.avg_pool2d(mask, SUPER)
    means = F.avg_pool2d(canvas.view(K, big, big, 6).permute(0, 3, 1, 2), SUPER) / alpha.clamp_min(1e-6)
    depth = seen.depth.view(K, size, SUPER, size, SUPER).permute(0, 1, 3, 2, 4).flatten(3)
    nearest = depth.amin(-1, keepdim=True)
    same = depth < nearest + SAME_SURFACE
    near = torch.where(same, depth, 0.0).sum(-1) / same.sum(-1).clamp_min(1)
    near = torch.where(torch.isfinite(nearest[..., 0]), near, torch.inf)
    numbers = torch.zeros(K * big * big, dtype=torch.long, device=pixel.device)
    numbers[pixel] = surface.labels
    four = numbers.view(K, size, SUPER, size, SUPER).permute(0, 1, 3, 2, 4).flatten(3)
    votes = (four[..., :, None] == four[..., None, :]).sum(-1) + 0.5 * (four > 0)
    labels = four.gather(-1, votes.argmax(-1, keepdim=True))[..., 0]
    points = person.model.landmark_points(posed.vertices[: len(person.canonical)], "ibug68")
    landmarks = torch.stack([c.resized(size, size).project(points)[0] for c in cameras])
    return Sample(
        means[:, :3], alpha, F.normalize(means[:, 3:], dim=1), near[:, None], labels, landmarks, points
    )
