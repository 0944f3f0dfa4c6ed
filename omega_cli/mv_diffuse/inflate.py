"""Hair volume: the scalp inflated until its outline in the photo meets the outline of the hair.

Unknown is one thickness h [V] (m) along a smooth outward direction field. Every vertex on the head's
outline as the photo's camera sees it asks for the thickness that reaches the matte's edge; the rest of
the scalp follows by smoothness, left-right symmetry and a weak prior. A sparse linear solve, repeated
because the outline moves. Works for any head pose. Ours; the paper takes this from its diffusion model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from ..geometry.camera import Camera
from ..geometry.mesh import edges as mesh_edges
from ..geometry.mesh import vertex_normals
from ..geometry.sparse import solve

MAX_THICKNESS = 0.09  # m: beyond that hair hangs free of the head and a scalp cannot carry it
MIN_THICKNESS = -0.006  # m: the fitted skull may be a little too large


@dataclass(frozen=True)
class Outline:
    """The photo seen as outlines, [H, W] bool: head (no cloth), hair (hair and hat), and where the photo
    lies in the crop: an outline at its edge is the photo's, not the head's."""

    head: np.ndarray
    hair: np.ndarray
    photo: np.ndarray


def direction_field(
    vertices: np.ndarray,  # [V, 3] m
    normals: np.ndarray,  # [V, 3] unit
    adjacency: sp.csr_matrix,  # [V, V] row-normalised
    hanging: np.ndarray,  # [V] in [0, 1]: 1 = below the ears, where hair falls and volume is sideways
) -> np.ndarray:  # [V, 3] unit
    """Outward directions free of ear and fold detail, so that thick hair does not cross itself."""
    radial = vertices - np.array([0.0, 0.03, -0.01])
    sideways = vertices * np.array([1.0, 0.0, 1.0]) + np.array([0.0, 0.0, 0.03])
    d = normals.copy()
    for _ in range(40):
        d = adjacency @ d
    d = _unit(d) + _unit(radial)
    d = (1 - hanging)[:, None] * _unit(d) + hanging[:, None] * _unit(sideways)
    return _unit(d)


def outline_vertices(
    normals: np.ndarray,  # [V, 3]
    to_camera: np.ndarray,  # [V, 3] unit, towards the photo's camera
    edges: np.ndarray,  # [E, 2]
) -> np.ndarray:  # [M]
    """Vertices at which the surface turns away from the camera."""
    facing = (normals * to_camera).sum(1)
    crossing = facing[edges[:, 0]] * facing[edges[:, 1]] <= 0
    return np.unique(edges[crossing])


def march(
    start: np.ndarray,  # [M, 2] px
    direction: np.ndarray,  # [M, 2] unit, outward
    outline: Outline,
    only_hair: np.ndarray,  # [M] bool: go outward through hair only (necks, shoulders)
    reach_px: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signed distance (px) from each point to the head's outline along its direction, validity [M] and
    whether the distance is a least one [M].

    Positive: the point is inside and the outline lies further out. Points whose march leaves the photo
    are not valid: a photo that cuts the hair says only that it reaches that edge, at least.
    """
    height, width = outline.head.shape
    steps = np.arange(-0.35 * reach_px, reach_px, 0.5)
    xy = start[:, None] + steps[None, :, None] * direction[:, None]
    x, y = np.floor(xy[..., 0]).astype(int), np.floor(xy[..., 1]).astype(int)
    framed = (x >= 1) & (x < width - 1) & (y >= 1) & (y < height - 1)
    x, y = x.clip(0, width - 1), y.clip(0, height - 1)
    framed &= outline.photo[y, x]
    inside = np.where(only_hair[:, None], outline.hair[y, x], outline.head[y, x]) & framed
    zero = int(np.searchsorted(steps, 0.0))
    at_start = inside[:, zero]
    # outward to the first step outside, from there inward to the last one inside
    outside, within = ~inside[:, zero:], inside[:, :zero]
    leaves, enters = outside.any(1), within.any(1)
    first = np.where(leaves, zero + outside.argmax(1), len(steps) - 1)
    last = zero - 1 - within[:, ::-1].argmax(1)
    valid = np.where(at_start, leaves & framed[np.arange(len(start)), first], enters & framed[:, zero])
    distance = np.where(at_start, steps[first], np.where(enters, steps[last], 0.0))
    return distance, valid, at_start & leaves & ~framed[np.arange(len(start)), first]


def smoothness(
    laplacian: sp.csr_matrix,  # [V, V] graph Laplacian D - A
    active: np.ndarray,  # [V] bool
    mirror: np.ndarray,  # [V]
) -> sp.csr_matrix:  # [V, V]
    """Quadratic form of the unseen part of the energy: membrane + plate + left-right symmetry."""
    pairs = np.flatnonzero(active & active[mirror])
    rows = np.arange(len(pairs))
    signs = np.repeat([1.0, -1.0], len(pairs))
    at = (np.r_[rows, rows], np.r_[pairs, mirror[pairs]])
    difference = sp.csr_matrix((signs, at), (len(pairs), len(active)))
    plate = laplacian.T @ laplacian
    return 0.08 * laplacian + 0.12 * plate + 0.05 * (difference.T @ difference)


def solve_thickness(
    wanted: np.ndarray,  # [V] m
    weight: np.ndarray,  # [V]
    prior: np.ndarray,  # [V] m
    prior_weight: np.ndarray,  # [V]
    active: np.ndarray,  # [V] bool; elsewhere h = 0
    smooth: sp.csr_matrix,  # [V, V], see `smoothness`
    device: torch.device | str,  # that solves
) -> np.ndarray:  # [V] m
    """argmin of the quadratic energy: data + prior + smoothness."""
    index = np.flatnonzero(active)
    h = np.zeros(len(active))
    if len(index) == 0:
        return h
    system = sp.csr_matrix(sp.diags(weight + prior_weight) + smooth)[index][:, index]
    right = weight * wanted + prior_weight * prior
    h[index] = solve(system, right[index], device)
    return h.clip(MIN_THICKNESS, MAX_THICKNESS)


def inflate(
    vertices: np.ndarray,  # [V, 3] m, posed, head frame
    faces: Tensor,  # [F, 3]
    regions: dict[str, np.ndarray],  # name -> [V] bool
    mirror: np.ndarray,  # [V]
    camera: Camera,  # the photo's, in the head frame
    outline: Outline,
    hair_bottom: float,  # m: height above which hair covers the nape
    hidden_ears: tuple[bool, bool] = (False, False),
    iterations: int = 6,
    device: torch.device | str = "cpu",  # that solves
) -> np.ndarray:  # [V, 3] m
    """Displacement of every vertex that brings the head's outline to the outline of the hair."""
    links = mesh_edges(faces).numpy()
    n = len(vertices)
    ones = np.ones(len(links))
    adjacency = sp.coo_matrix((ones, (links[:, 0], links[:, 1])), (n, n))
    adjacency = (adjacency + adjacency.T).tocsr()
    degree = np.asarray(adjacency.sum(1)).ravel().clip(1)
    laplacian = (sp.diags(degree) - adjacency).tocsr()

    start = vertex_normals(torch.from_numpy(vertices).float(), faces).numpy().astype(np.float64)
    hanging = 1 / (1 + np.exp((vertices[:, 1] + 0.02) / 0.012))
    field = direction_field(vertices, start, (sp.diags(1 / degree) @ adjacency).tocsr(), hanging)

    scalp = regions["scalp"]
    active = scalp.copy()
    for side, hidden in zip(("left_ear", "right_ear"), hidden_ears, strict=True):
        active |= regions[side] & hidden
    # The nape and the sides of the neck carry hair that falls below the ears; the throat does not.
    active |= regions["neck"] & (start[:, 2] < 0.45)
    # Priors, as shares of the thickness that the outline shows: full behind, half towards the face, where
    # hair lies flatter. Necks stay bare but for the part behind which hair hangs.
    behind = 1 / (1 + np.exp(start[:, 2] / 0.15))
    curtain = regions["neck"] & (start[:, 2] < 0.2) & (vertices[:, 1] > hair_bottom)
    share = np.where(scalp, 0.35 + 0.5 * behind, np.where(curtain, 0.6, 0.0))
    prior_weight = np.where(scalp | curtain, 6e-3, 3e-2)
    prior = np.zeros(n)

    smooth = smoothness(laplacian, active, mirror)
    moved = vertices.copy()
    h, least = np.zeros(n), np.zeros(n)
    for _ in range(iterations):
        normals = vertex_normals(torch.from_numpy(moved).float(), faces).numpy().astype(np.float64)
        to_camera = camera.view_directions(torch.from_numpy(moved).float()).numpy()
        rim = outline_vertices(normals, to_camera, links)
        rim = rim[active[rim]]
        if len(rim) == 0:
            break
        tip = torch.from_numpy(np.stack([moved[rim], moved[rim] + 1e-3 * field[rim]])).float()
        pixels, _ = camera.project(tip)
        base, step = pixels[0].numpy().astype(np.float64), (pixels[1] - pixels[0]).numpy().astype(np.float64)
        px_per_m = np.linalg.norm(step, axis=1) * 1e3
        px_scale = float(np.median(px_per_m))
        reach = MAX_THICKNESS * px_scale
        distance, valid, cut = march(
            base, 1e3 * step / px_per_m.clip(1e-6)[:, None], outline, ~scalp[rim], reach
        )
        # A direction that points at the camera says nothing about thickness.
        trust = 0.6 * valid * np.clip(px_per_m / px_scale - 0.3, 0, 1)
        wanted, weight = np.zeros(n), np.zeros(n)
        reached = h[rim] + distance / px_per_m.clip(1e-6)
        least[rim] = np.maximum(least[rim], np.where(cut & (px_per_m > 0.3 * px_scale), reached, 0.0))
        wanted[rim] = reached
        weight[rim] = trust
        held = (weight == 0) & (least > 0)
        wanted[held], weight[held] = least[held], 0.3
        if weight[scalp].sum() > 0:
            typical = np.average(wanted.clip(0, MAX_THICKNESS)[scalp], weights=weight[scalp] + 1e-9)
            prior = share * typical
        h = solve_thickness(
            wanted.clip(MIN_THICKNESS, MAX_THICKNESS), weight, prior, prior_weight, active, smooth, device
        )
        moved = vertices + h[:, None] * field
    return moved - vertices


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v, axis=-1, keepdims=True).clip(1e-12)
