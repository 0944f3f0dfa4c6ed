"""Pictures of a blended person: rasterised once at twice the size, shaded per sample, averaged down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.avatar.layout import PARSING_LABELS
from omega_cli.data.studio import light as lights
from omega_cli.data.studio.light import Light
from omega_cli.data.studio.scene import SAME_SURFACE, SUPER, Sample
from omega_cli.geometry.camera import Camera
from omega_cli.geometry.mesh import vertex_normals
from omega_cli.geometry.raster import Fragments, blend, rasterize_views

if TYPE_CHECKING:
    from omega_cli.data.studio.blends import BlendPerson

HAIR = PARSING_LABELS.index("hair")
CLOTH = PARSING_LABELS.index("cloth")


def draw_blend(
    person: BlendPerson,
    expression: Tensor | None,  # [E]; None: the person's own, zeros: at rest
    cameras: Sequence[Camera],  # K
    light: Light,
    size: int,
) -> Sample:
    """All of `Sample` for one person under one light, square views of `size` px. The world is the open head's
    frame."""
    vertices = person.posed(expression)
    normals = vertex_normals(vertices, person.faces)
    big = [camera.resized(size * SUPER, size * SUPER) for camera in cameras]
    seen = rasterize_views(vertices, person.faces, big)
    pixel = torch.nonzero(seen.face_index.flatten() >= 0)[:, 0]
    face = seen.face_index.flatten()[pixel].long()
    table = torch.cat(
        [
            normals,
            person.uv,
            lights.ambient(light, normals, person.visible),
            lights.shadows(light, person.visible),
            vertices,
        ],
        1,
    )
    values = blend(table, person.faces, face, seen.barycentric.reshape(-1, 3)[pixel])
    normal, uv, around, reach = values[:, :3], values[:, 3:5], values[:, 5:8], values[:, 8:-3]
    view = _ahead(values[:, -3:], pixel // (size * SUPER) ** 2, cameras)
    normal = F.normalize(normal, dim=1)
    # hair is single sheets: what is seen from behind is lit as if it faced the camera
    away = (normal * view).sum(1, keepdim=True)
    normal = F.normalize(normal - view * (away - 0.05).clamp_max(0) * 2, dim=1)
    albedo, labels = _surface(person, face, uv)
    colour = _shade(albedo, labels, normal, light, around, reach)
    return _average(person, vertices, colour, normal, labels, seen, pixel, cameras, size)


def _ahead(point: Tensor, which: Tensor, cameras: Sequence[Camera]) -> Tensor:
    """[n, 3] unit vectors from points [n, 3] to the camera `which` [n] sees them."""
    out = torch.empty_like(point)
    ends = torch.searchsorted(which, torch.arange(len(cameras) + 1))
    for k, camera in enumerate(cameras):
        own = slice(int(ends[k]), int(ends[k + 1]))
        out[own] = camera.view_directions(point[own])
    return out


def _surface(person: BlendPerson, face: Tensor, uv: Tensor) -> tuple[Tensor, Tensor]:
    """Linear albedo [n, 3] and labels [n] at the seen samples."""
    albedo, labels = torch.empty(len(face), 3), torch.full((len(face),), HAIR)
    is_wig = face >= person.wig_from
    for texture, at in ((person.skin, ~is_wig), (person.wig, is_wig)):
        if texture is None:
            continue
        at = torch.nonzero(at)[:, 0]
        grid = (2 * uv[at] - 1)[None, None]
        albedo[at] = F.grid_sample(texture[None], grid, align_corners=False, padding_mode="border")[0, :, 0].T
        if texture is person.skin:
            S = texture.shape[1]
            texel = (uv[at] * S).long().clamp_(0, S - 1)
            labels[at] = person.labels[texel[:, 1], texel[:, 0]]
    return albedo, labels


def _shade(
    albedo: Tensor, labels: Tensor, normal: Tensor, light: Light, around: Tensor, reach: Tensor
) -> Tensor:
    """[n, 3] linear radiance: the surrounding, and each light's diffuse part."""
    wrap = torch.tensor(lights.SKIN_WRAP).expand(len(PARSING_LABELS), 3).clone()
    wrap[HAIR], wrap[CLOTH] = lights.HAIR_WRAP, 0.0
    wrap = wrap[labels]
    total = around
    for i in range(len(light.directions)):
        if float(light.colours[i].max()) <= 0:
            continue
        lit = (((normal @ light.directions[i])[:, None] + wrap) / (1 + wrap)).clamp_min(0)
        total = total + 0.9 * light.colours[i] * reach[:, i : i + 1] * lit
    return total * albedo * light.exposure


def _average(
    person: BlendPerson,
    vertices: Tensor,
    colour: Tensor,
    normal: Tensor,
    labels: Tensor,
    seen: Fragments,
    pixel: Tensor,
    cameras: Sequence[Camera],
    size: int,
) -> Sample:
    """Samples to pixels: means of colour and normals, the nearest surface's depth, the commonest label."""
    K, big = len(cameras), size * SUPER
    canvas = colour.new_zeros(6, K * big * big)
    canvas[:, pixel] = torch.cat([lights.develop(colour), normal], 1).T
    sums = F.avg_pool2d(canvas.view(6, K, big, big).transpose(0, 1), SUPER)
    alpha = F.avg_pool2d((seen.face_index >= 0).float().view(K, 1, big, big), SUPER)
    means = sums / alpha.clamp_min(1e-6)
    depth = _fours(seen.depth, size)
    nearest = depth.amin(-1, keepdim=True)
    same = depth < nearest + SAME_SURFACE
    near = torch.where(same, depth, 0.0).sum(-1) / same.sum(-1).clamp_min(1)
    near = torch.where(torch.isfinite(nearest[..., 0]), near, torch.inf)
    numbers = torch.zeros(K * big * big, dtype=torch.uint8)
    numbers[pixel] = labels.byte()
    four = _fours(numbers.view(K, big, big), size)
    votes = (four[..., :, None] == four[..., None, :]).sum(-1).byte() * 2 + (four > 0)
    number = four.gather(-1, votes.argmax(-1, keepdim=True))[..., 0].long()
    points = person.landmarks(vertices)
    landmarks = torch.stack([c.resized(size, size).project(points)[0] for c in cameras])
    return Sample(
        means[:, :3], alpha, F.normalize(means[:, 3:], dim=1), near[:, None], number, landmarks, points
    )


def _fours(image: Tensor, size: int) -> Tensor:  # [K, 2 S, 2 S] -> [K, S, S, 4]
    return image.view(-1, size, SUPER, size, SUPER).permute(0, 1, 3, 2, 4).flatten(3)
