"""The objective of paper Eq. 2 as named terms, at fixed visibility; differentiable in the offsets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.deform_flame.linear import SparseMap, Surface
from omega_cli.deform_flame.observe import Observation
from omega_cli.deform_flame.semantics import Semantics
from omega_cli.geometry.camera import Camera
from omega_cli.geometry.mesh import face_cross, vertex_normals

UNIT = 0.2  # m: lengths enter the loss in SOAP's units, whose box [-1, 1]^3 is 0.4 m wide here
NORMAL_SCALE = 0.5  # |n - n*| beyond which a pixel counts linearly: views do not agree to the pixel
OUTLINE_SCALE = 0.02  # m, the same for outlines
LANDMARK_SCALE = 0.003  # m, the same for landmarks
# A face whose projection on its undeformed plane is below FOLD_START of its area is on its way to a flip.
FOLD_START = 0.25
LAMBDA_FOLD = 0.03
JAW_LINE = 17  # landmarks 0 to 16 slide along the jaw's outline with the head's turn
JAW_WEIGHT = 0.2
# Mirror partners of the 68 landmarks (iBUG numbering).
_MIRROR_RUNS = ((0, 16, 9), (17, 26, 5), (31, 35, 3), (36, 45, 4), (40, 47, 2), (48, 54, 4), (55, 59, 3),
                (60, 64, 3), (65, 67, 2))  # fmt: skip


def mirror_landmarks() -> list[int]:
    """For each of the 68 points, the number of its mirror image; the middle line maps to itself."""
    partner = list(range(68))
    for first, last, count in _MIRROR_RUNS:
        for k in range(count):
            partner[first + k], partner[last - k] = last - k, first + k
    return partner


@dataclass(frozen=True)
class Landmarks:
    """The 68 points in the photo: on_mesh, points [68, 2] px, weight [68], partner [68] (the number of each
    one's mirror image), mirror [3] = (-1, 1, 1), and the photo's camera."""

    on_mesh: Surface
    points: Tensor
    weight: Tensor
    partner: Tensor
    mirror: Tensor
    camera: Camera


@dataclass(frozen=True)
class Problem:
    """All that stays fixed during a fit.

    canonical [V, 3] m: the head before offsets; faces [F, 3]; planes [F, 3] (see `rest_planes`);
    laplacian [V, V] (Eq. 3);
    rest_delta [V, 3] m: the delta of Eq. 3 that costs nothing. Ours is the parametric head's own; zeros
    are Eq. 3 to the letter, which pulls every vertex towards the middle of its neighbours, so that on a
    mesh of mixed valences the scalp slides into dimples at the odd ones (docs/deformation.md).
    to_views, to_photo: canonical vertices [..., V, 3] -> vertices in the views' frame / as in the photo.
    """

    canonical: Tensor
    faces: Tensor
    planes: Tensor
    laplacian: SparseMap
    rest_delta: Tensor
    semantics: Semantics
    to_views: Callable[[Tensor], Tensor]
    to_photo: Callable[[Tensor], Tensor]
    landmarks: Landmarks | None


@dataclass(frozen=True)
class Lambdas:
    """The weights of Eq. 2 and of our own terms (see DeformFlameConfig)."""

    nml: float
    sil: float
    lmk: float
    sym: float
    lap: float
    par: float
    fold: float = LAMBDA_FOLD

    def factor(self, name: str) -> float:
        """What a term counts in L; sym counts under the landmarks' weight."""
        return self.lmk * self.sym if name == "sym" else getattr(self, name)

    def total(self, terms: Mapping[str, Any]) -> Any:
        """L = sum of lambda * term, of numbers or tensors."""
        return sum(self.factor(name) * value for name, value in terms.items())


def term_names(problem: Problem) -> tuple[str, ...]:
    """The terms of `deformation_loss`."""
    return ("nml", "sil", "lap", "par", "fold", *(("lmk", "sym") if problem.landmarks is not None else ()))


def deformation_loss(offsets: Tensor, problem: Problem, seen: Observation) -> dict[str, Tensor]:
    """The terms of Eq. 2 at canonical offsets ΔV [V, 3] m, each a scalar, without its λ.

    nml: robust |n - n*|^2, mean over the pixels of non-facial regions.
    lmk, sym: the 68 points in the photo; equal offsets left and right in canonical space.
    lap: Eq. 3, sum of w_i |delta_i|^2, delta counted from the parametric head's (see Problem).
    Ours: sil, outlines on the masks' outlines; par, the held regions (face, ears) keep their parametric
    shape; fold, a barrier before triangles flip. The free regions' terms do not move held vertices:
    the semantic mask of 3.2 restricts the scope of the deformation, so hair cannot drag the face along.
    """
    semantics = problem.semantics
    free_only = torch.where(semantics.free[:, None], offsets, offsets.detach())
    held_only = torch.where(semantics.held[:, None], offsets, 0.0)
    # A vertex that slides within the surface takes its pixels' targets along, although the maps hold
    # still: sliding can only seem to help. So the maps see motion along the normal alone.
    along = ((offsets - seen.base) * seen.along).sum(1, keepdim=True) * seen.along
    guided = torch.where(semantics.normal[:, None] > 0, seen.base + along, offsets.detach())
    free_vertices, guided = problem.canonical + torch.stack([free_only, guided])
    in_views, guided = problem.to_views(torch.stack([free_vertices, guided]))
    normals = seen.surface(vertex_normals(guided, problem.faces))
    gap = (F.normalize(normals, dim=1) - seen.normal).square().sum(1)
    beyond = (seen.outline(in_views) * seen.direction).sum(1) - seen.goal
    # one product for both; delta of the free vertices is counted from the parametric head's
    bent = problem.laplacian(torch.cat([free_vertices, held_only], 1)) / UNIT
    bent, shape = bent.split(3, dim=1)
    delta = bent - problem.rest_delta / UNIT
    terms = {
        "nml": (seen.weight * robust(gap, NORMAL_SCALE)).sum(),
        "sil": (seen.outline_weight * robust(beyond.square(), OUTLINE_SCALE)).sum() / UNIT**2,
        "lap": (semantics.laplacian * delta.square().sum(1)).sum(),
        "par": _parametric(shape, offsets, semantics),
        "fold": fold_barrier(free_vertices, problem.planes, problem.faces),
    }
    if problem.landmarks is not None:
        terms["lmk"] = _landmark(problem.to_photo(problem.canonical + offsets), problem.landmarks)
        terms["sym"] = _symmetry(offsets, problem.landmarks)
    return terms


def robust(squared: Tensor, scale: float) -> Tensor:
    """Charbonnier: r^2 near zero, 2 scale |r| far away."""
    return 2 * scale**2 * ((1 + squared / scale**2).sqrt() - 1)


def robust_weight(squared: Tensor, scale: float) -> Tensor:
    """d robust / d r^2, in (0, 1]."""
    return (1 + squared / scale**2).rsqrt()


def rest_planes(rest: Tensor, faces: Tensor) -> Tensor:
    """[F, 3] 1 / m^2: a face's cross product . this = its area on its rest plane over its rest area."""
    cross = face_cross(rest, faces)
    return cross / cross.square().sum(1, keepdim=True).clamp_min(1e-24)


def area_ratio(vertices: Tensor, planes: Tensor, faces: Tensor) -> Tensor:
    """Area of each face [F] projected on its rest plane, over its rest area: negative = flipped."""
    return (face_cross(vertices, faces) * planes).sum(1)


def fold_barrier(vertices: Tensor, planes: Tensor, faces: Tensor) -> Tensor:
    """Sum over faces of how far they are below FOLD_START, in units of FOLD_START, squared."""
    lack = (FOLD_START - area_ratio(vertices, planes, faces)).clamp_min(0) / FOLD_START
    return lack.square().sum()


def _parametric(shape: Tensor, offsets: Tensor, semantics: Semantics) -> Tensor:
    """Held vertices keep their differential coordinates, as if free neighbours had not moved, and place."""
    place = (offsets / UNIT).square().sum(1)
    return (semantics.held * shape.square().sum(1) + semantics.place * place).sum()


def _landmark(vertices: Tensor, landmarks: Landmarks) -> Tensor:
    """Weighted mean robust squared distance of the projected points, in UNIT at the head's depth."""
    pixels, depth = landmarks.camera.project(landmarks.on_mesh(vertices))
    metres = (pixels - landmarks.points) / px_per_m(landmarks.camera, depth)[:, None]
    return (landmarks.weight * robust(metres.square().sum(1), LANDMARK_SCALE)).sum() / UNIT**2


def px_per_m(camera: Camera, depth: Tensor) -> Tensor:
    """Pixels a metre covers at the given depths [L] m (constants: no gradient)."""
    focal = camera.K[0, 0].to(depth)
    return (focal / depth.detach()) if camera.model == "pinhole" else focal.expand_as(depth)


def _symmetry(offsets: Tensor, landmarks: Landmarks) -> Tensor:
    """Mean squared difference between each landmark's offset and its partner's mirrored offset.

    Offsets, not positions: the identity may be as asymmetric as it is; the correction may not.
    """
    moved = landmarks.on_mesh(offsets) / UNIT
    partner = moved.index_select(0, landmarks.partner)
    return (moved - partner * landmarks.mirror).square().sum(1).mean()
