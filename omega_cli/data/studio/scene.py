"""Pictures of people: rasterised once at twice the size, shaded per sample, and averaged down."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from omega_cli.data.studio.crowd import Crowd, Posed, assemble, pose_crowd
from omega_cli.data.studio.light import Light, stack_lights
from omega_cli.data.studio.people import Person
from omega_cli.data.studio.shading import KINDS, Samples, Scene, make_scene, shade, unit
from omega_cli.data.studio.views import Views, clip_space, stack_views
from omega_cli.geometry.camera import Camera
from omega_cli.head.params import HeadParams
from omega_cli.kernels.mesh_raster import rasterize_mesh

SUPER = 2  # samples along each side of a pixel
SAME_SURFACE = 0.006  # m: samples of a pixel within this of the nearest count for its depth
CHUNK = {"cpu": 1 << 16, "cuda": 1 << 22}  # samples shaded at once: what a core's cache or a GPU holds


@dataclass(frozen=True)
class Sample:
    """K views of one moment. rgb [K, 3, H, W] sRGB in [0, 1], straight (not multiplied by alpha), 0 where
    empty; alpha [K, 1, H, W]; normal [K, 3, H, W] unit, world, 0 where empty; depth [K, 1, H, W] m along
    the camera's z, inf where empty; labels [K, H, W] long (PARSING_LABELS); landmarks [K, 68, 2] px;
    landmarks_3d [68, 3] m, world. Of P people (`render_people`): the same with P in front."""

    rgb: Tensor
    alpha: Tensor
    normal: Tensor
    depth: Tensor
    labels: Tensor
    landmarks: Tensor
    landmarks_3d: Tensor

    def __getitem__(self, person: int) -> Sample:
        """One of several people."""
        return Sample(*(getattr(self, f.name)[person] for f in fields(self)))


def pose(person: Person, params: HeadParams) -> Posed:
    """One person alone, fields without P: expression and pose of one frame (params.betas is not read)."""
    if len(params) != 1:
        raise ValueError(f"a sample is one frame, got params of {len(params)}")
    posed = pose_crowd(assemble([person]), params)
    return Posed(*(getattr(posed, f.name)[0] for f in fields(posed)))


def render_sample(
    person: Person,
    params: HeadParams,
    cameras: Sequence[Camera],  # K
    light: Light,
    size: int,
) -> Sample:
    """All of `Sample` for one person at one moment under one light, square views of `size` px."""
    if len(params) != 1:
        raise ValueError(f"a sample is one frame, got params of {len(params)}")
    return render_people([person], params, [cameras], [light], size)[0]


def render_people(
    people: Sequence[Person],  # P, on one device
    params: HeadParams,  # T = P: a frame each
    cameras: Sequence[Sequence[Camera]],  # [P][K]
    lights: Sequence[Light],  # P
    size: int,
) -> Sample:
    """`Sample` [P, K, ...] of P people, each before K cameras of their own, on the people's device.

    A GPU is waited for four times, to learn how many samples there are of each kind.
    """
    P, K = len(people), len(cameras[0])
    if len(cameras) != P or len(lights) != P or any(len(row) != K for row in cameras):
        raise ValueError(f"{P} people need {P} lights and {P} equal rows of cameras")
    crowd = assemble(people)
    posed = pose_crowd(crowd, params)
    flat, device = [c for row in cameras for c in row], posed.vertices.device
    big = stack_views(flat, size * SUPER, device)
    seen = _Seen.by(crowd, posed, big, K, size * SUPER)
    scene = make_scene(crowd, posed, stack_lights(lights, device), big, K)
    colour, labels = _draw(scene, seen)
    points = crowd.model.landmark_points(posed.vertices[:, : crowd.canonical.shape[1]], "ibug68")
    clip = clip_space(points, stack_views(flat, size, device).to_clip.view(P, K, 4, 4))
    rgb, alpha, normal, depth, labels = (v.unflatten(0, (P, K)) for v in _average(seen, colour, labels))
    landmarks = clip[..., :2] / clip[..., 3:].clamp_min(1e-6)
    return Sample(rgb, alpha, normal, depth, labels, landmarks, points)


@dataclass(frozen=True)
class _Seen:
    """Fragments of B = P * K views: face [B, H, W] of all people's, -1 where empty; barycentric
    [B * H * W, 3]; depth [B, H, W]."""

    face: Tensor
    barycentric: Tensor
    depth: Tensor

    @staticmethod
    def by(crowd: Crowd, posed: Posed, views: Views, K: int, size: int) -> _Seen:
        clip = clip_space(posed.vertices, views.to_clip.view(len(crowd), K, 4, 4))
        drawn = [
            rasterize_mesh(own, faces, (size, size)) for own, faces in zip(clip, crowd.faces, strict=True)
        ]
        if len(drawn) == 1:
            return _Seen(drawn[0].face_index, drawn[0].barycentric.view(-1, 3), drawn[0].depth)
        face = torch.stack([d.face_index for d in drawn])
        face = torch.where(face >= 0, face + crowd.firsts[:, None, None, None], -1)
        barycentric, depth = (torch.cat([getattr(d, n) for d in drawn]) for n in ("barycentric", "depth"))
        return _Seen(face.flatten(0, 1), barycentric.view(-1, 3), depth)


def _draw(scene: Scene, seen: _Seen) -> tuple[Tensor, Tensor]:
    """Canvases of all samples: [6, B * H * W] colour and normal, [B * H * W] uint8 labels, 0 where empty."""
    face = seen.face.flatten()
    canvas = scene.surface.new_zeros(6, len(face))
    numbers = torch.zeros(len(face), dtype=torch.uint8, device=face.device)
    per_view = seen.face[0].numel()
    for kind, pixel in _kinds(scene.crowd, face):
        for some in pixel.split(CHUNK[face.device.type]):
            view = some // per_view
            at = Samples(face[some], seen.barycentric.index_select(0, some), view // scene.K, view)
            values, labels = shade(scene, kind, at)
            canvas.index_copy_(1, some, values)
            numbers.index_copy_(0, some, labels)
    return canvas, numbers


def _kinds(crowd: Crowd, face: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Each kind of face with the samples [n] that show it."""
    pixel = torch.nonzero(face >= 0)[:, 0]
    kinds = crowd.kinds.index_select(0, face.index_select(0, pixel))
    for kind in KINDS:
        yield kind, pixel[kinds == kind]


def _quarters(x: Tensor) -> list[Tensor]:
    """[..., H, W] -> the SUPER * SUPER samples of every pixel, [..., H / SUPER, W / SUPER] each."""
    return [x[..., i::SUPER, j::SUPER] for i in range(SUPER) for j in range(SUPER)]


def _pooled(x: Tensor) -> Tensor:
    """[..., H, W] -> sums of every pixel's samples; rows first: they lie in one piece."""
    rows = functools.reduce(torch.add, (x[..., i::SUPER, :] for i in range(SUPER)))
    return functools.reduce(torch.add, (rows[..., j::SUPER] for j in range(SUPER)))


def _average(seen: _Seen, canvas: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Samples to pixels: means of colour and normals, the nearest surface's depth, the commonest label."""
    B, H, W = seen.face.shape
    alpha = _pooled((seen.face >= 0).to(canvas.dtype)) / SUPER**2
    means = _pooled(canvas.view(6, B, H, W)) / (alpha * SUPER**2).clamp_min(1e-6)
    depths = _quarters(seen.depth)
    nearest = torch.stack(depths).amin(0)
    limit, total, count = nearest + SAME_SURFACE, torch.zeros_like(nearest), torch.zeros_like(nearest)
    for depth in depths:
        same = depth < limit
        total, count = total + torch.where(same, depth, 0.0), count + same
    depth = torch.where(torch.isfinite(nearest), total / count.clamp_min(1), torch.inf)
    labels = _commonest(_quarters(numbers.view(B, H, W)))
    rgb, normal = (v.transpose(0, 1).contiguous() for v in (means[:3], unit(means[3:])))
    return rgb, alpha[:, None], normal, depth[:, None], labels


def _commonest(labels: list[Tensor]) -> Tensor:
    """The label [...] that most of a pixel's samples bear; of equally many a real one before 0, then the
    first."""
    labels = [x.contiguous() for x in labels]
    best, most = labels[0], None
    for one in labels:
        votes = (one > 0).to(torch.uint8)
        for other in labels:
            votes = votes + 2 * (one == other)
        if most is None:
            most = votes
        else:
            better = votes > most
            best, most = torch.where(better, one, best), torch.where(better, votes, most)
    return best.long()
