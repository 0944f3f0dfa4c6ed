"""Masks on the shared topology and UV layout of VALID heads: scalp, clothes, face, and parsing labels."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from scipy.interpolate import RBFInterpolator
from scipy.spatial import KDTree
from torch import Tensor

from omega_cli.avatar.layout import PARSING_LABELS
from omega_cli.geometry.uvmap import rasterize_uv, texel_values

LABEL = {name: number for number, name in enumerate(PARSING_LABELS)}
HAIR_CENTRE = (0.0, 0.035, -0.005)  # m: directions of the scalp are told from here
FACING = (0.0, -0.45, 0.9)  # and measured from this one, which leaves the face through the mouth
SCALP_DEG = (58.0, 78.0)  # from face to scalp
GROWTH_DEG = (40.0, 55.0)  # from where on hair may hang
NECK_BACK, NECK_FRONT = -0.085, -0.12  # m: where the neck gives way to the clothes, upper end
NECK_SOFT = 0.03  # m below it the clothes are all
COLLAR = 0.035  # m above it collars may reach, besides all of the neck
BROW = 0.005  # m from the landmarks' line
GUTTER = 6  # texels around the islands that copy their border


@dataclass(frozen=True)
class Masks:
    """scalp_v, cloth_v [B]; scalp, cloth, growth (where hair may be: the scalp and what it hangs over),
    collar (where cloth may be), face_zone (texels of the head itself, not of its parts), [S, S] in [0, 1];
    labels [S, S] of a bald, bare head; cheeks [S, S] bool: sure to be skin."""

    scalp_v: Tensor
    cloth_v: Tensor
    scalp: Tensor
    cloth: Tensor
    growth: Tensor
    collar: Tensor
    face_zone: Tensor
    labels: Tensor
    cheeks: Tensor


def smooth(x, low: float, high: float):
    """0 below low, 1 above high, smooth between; tensors or arrays."""
    t = ((x - low) / (high - low)).clip(0, 1)
    return t * t * (3 - 2 * t)


def make_masks(mean: Tensor, faces: Tensor, uv: Tensor, head_count: int, marks: Tensor, size: int) -> Masks:
    """mean [B, 3] m in the open head's frame; marks [68, 3]: its landmarks."""
    head = faces[(faces < head_count).all(1)]
    ray = mean - torch.tensor(HAIR_CENTRE)
    ahead = torch.nn.functional.normalize(torch.tensor(FACING), dim=0)
    angle = torch.rad2deg(torch.acos((ray @ ahead / ray.norm(dim=1).clamp_min(1e-6)).clamp(-1, 1)))
    y, z = mean[:, 1], mean[:, 2]
    chin = float(marks[8, 1])
    # the nape's hair hangs lower than the ear's
    low = chin + 0.02 - 0.015 * smooth(-z, 0.0, 0.05)
    above = smooth(y - low, -0.015, 0.025)
    scalp_v = smooth(angle, *SCALP_DEG) * above
    # a fringe hangs over the forehead, and sideburns before the ears
    brow = float(marks[17:27, 1].max())
    beside = torch.maximum(smooth(y, brow + 0.008, brow + 0.015), smooth(mean[:, 0].abs(), 0.05, 0.06))
    nape = smooth(angle, *SCALP_DEG) * smooth(y - chin, -0.04, -0.03)
    growth_v = torch.maximum(nape, smooth(angle, *GROWTH_DEG) * beside * smooth(y, -0.03, -0.01))
    scalp_v[head_count:] = growth_v[head_count:] = 0
    # a collar rises to the back
    t = smooth(z, -0.03, 0.06)
    collar = NECK_BACK + (NECK_FRONT - NECK_BACK) * t
    cloth_v = smooth(collar - y, 0.0, NECK_SOFT)
    collar_v = smooth(collar + COLLAR - y, 0.0, 0.01)
    scalp_v, growth_v = scalp_v * (1 - cloth_v), growth_v * (1 - cloth_v)
    raster = rasterize_uv(uv, head, size)
    values = torch.cat([mean, scalp_v[:, None], cloth_v[:, None], growth_v[:, None], collar_v[:, None]], 1)
    texels = texel_values(values, head, raster)
    covered, source = _gutter(raster.covered)
    texels = texels.flatten(0, 1)[source].view(size, size, 7)
    cover = covered.float()
    labels = _labels(texels[..., :3], covered, mean, marks, size)
    eyes = rasterize_uv(uv, faces[((faces >= head_count) & (faces < len(mean))).any(1)], size).covered
    eyes, _ = _gutter(eyes)
    labels[eyes & ~covered] = LABEL["eyes"]
    point = texels[..., :3]
    cheeks = covered & (point[..., 1] < marks[30, 1] + 0.012) & (point[..., 1] > marks[33, 1] - 0.012)
    cheeks &= (point[..., 0].abs() > 0.025) & (point[..., 0].abs() < 0.05) & (point[..., 2] > 0.05)
    return Masks(
        scalp_v,
        cloth_v,
        texels[..., 3] * cover,
        texels[..., 4] * cover,
        texels[..., 5] * cover,
        torch.maximum(texels[..., 6] * cover, _soft(labels == LABEL["neck"]) * cover),
        cover,
        labels,
        cheeks,
    )


def _gutter(covered: Tensor) -> tuple[Tensor, Tensor]:
    """Covered texels [S, S] grown by GUTTER, and every texel's nearest covered one (flat index)."""
    distance, (row, column) = ndimage.distance_transform_edt(~covered.numpy(), return_indices=True)  # type: ignore[misc]
    source = torch.from_numpy(row.astype(np.int64) * covered.shape[1] + column)
    return torch.from_numpy(distance <= GUTTER), source.flatten()


def _soft(mask: Tensor, sigma: float = 2.0) -> Tensor:
    return torch.from_numpy(ndimage.gaussian_filter(mask.float().numpy(), sigma))


def _labels(point: Tensor, covered: Tensor, mean: Tensor, marks: Tensor, size: int) -> Tensor:
    """[S, S] long: the open head's regions, brought over by a smooth warp between the landmarks."""
    from omega_cli.head.assets import load_head

    model = load_head()
    own = model.landmark_points(model.v_template, "ibug68").numpy().astype(np.float64)
    warp = RBFInterpolator(own, marks.numpy() - own, kernel="linear", smoothing=1e-4)
    template = model.v_template.numpy().astype(np.float64)
    # far from the face the warp means nothing
    fade = smooth(template[:, 2], -0.02, 0.05)[:, None]
    moved = template + warp(template) * fade
    regions = model.regions
    number = torch.full((len(template),), LABEL["skin"])
    upper = torch.from_numpy(moved[:, 1]) >= float(marks[[62, 66], 1].mean())
    for name, label in (
        ("neck", "neck"), ("boundary", "neck"), ("ears", "ears"), ("nose", "nose"),
        ("lips", "lower_lip"), ("mouth_inside", "mouth_inside"), ("teeth", "mouth_inside"),
        ("tongue", "mouth_inside"),
    ):  # fmt: skip
        number[regions[name]] = LABEL[label]
    number[regions["lips"] & upper] = LABEL["upper_lip"]
    # the open head's own eyes and lashes lie before the lids' skin
    lying = ~(regions["eyes"] | regions["lashes"])
    nearest = KDTree(moved[lying.numpy()]).query(point.view(-1, 3).numpy().astype(np.float64))[1]
    labels = number[lying][torch.from_numpy(nearest)].view(size, size)
    for brow in (marks[17:22], marks[22:27]):
        labels[(_from_line(point, brow) < BROW) & (labels == LABEL["skin"])] = LABEL["brows"]
    low = point[..., 1] < NECK_FRONT
    labels[low & (labels != LABEL["mouth_inside"])] = LABEL["neck"]
    return torch.where(covered, labels, LABEL["mouth_inside"])


def _from_line(points: Tensor, line: Tensor) -> Tensor:
    """Distance [...] of points [..., 3] from a polyline [L, 3]."""
    best = torch.full(points.shape[:-1], torch.inf)
    for a, b in itertools.pairwise(line):
        t = (((points - a) @ (b - a)) / (b - a).square().sum()).clamp(0, 1)
        best = torch.minimum(best, (points - a - t[..., None] * (b - a)).norm(dim=-1))
    return best


def covers(
    texture: np.ndarray, skin: np.ndarray, masks: Masks, wigged: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Shares [S, S] of hair where hair may grow (none under a wig), and of cloth from the collar down.

    texture [S, S, 3] sRGB, skin [3] its colour. Hair is what lies nearer to the crown's colour than to the
    skin's; where hair and collar may meet, what hangs together with the crown is hair.
    """
    log, own = np.log(texture + 0.03), np.log(skin + 0.03)
    growth, zone, collar, deep = (
        m.numpy() for m in (masks.growth, masks.face_zone, masks.collar, masks.cloth)
    )
    growth = smooth(growth, 0.05, 0.4) * (masks.labels.numpy() != LABEL["ears"]) * (not wigged)
    crown = (masks.scalp.numpy() > 0.95) & (growth > 0.95)
    towards = np.median(log[crown], axis=0) - own if crown.any() else np.full(3, -1.0)
    share = _blurred((log - own) @ towards / max(float(towards @ towards), 0.05), zone, 1.0)
    # a gleam between two strands is hair too, but beyond its border there is none
    hairy = np.asarray(ndimage.grey_closing(smooth(share, 0.4, 0.7), 11))
    level = log.mean(-1) - own.mean()
    tint = np.linalg.norm(log - own - level[..., None], axis=-1)
    # on the neck darkness may be the chin's shadow: there only another hue is cloth
    low = smooth(deep, 0.0, 0.1)
    dark, hue = smooth(-level, 0.6, 1.0) * low, smooth(tint - 0.12 * (1 - low), 0.16, 0.3)
    worn = np.maximum(np.maximum(dark, smooth(level, 0.35, 0.6)), hue)
    worn = smooth(_blurred(worn, zone, 1.5), 0.3, 0.6)
    # a bare nape parts hair from collar: hair is what hangs together with the crown's
    pieces, _ = ndimage.label((np.maximum(worn, hairy) > 0.5) & (zone > 0) & (deep < 0.5))  # type: ignore[misc]
    own_pieces = np.setdiff1d(pieces[crown & (hairy > 0.5)], [0])
    grown = np.asarray(ndimage.binary_dilation(np.isin(pieces, own_pieces), iterations=2), dtype=bool)
    hanging = grown & (deep < 0.5)
    return hairy * growth * (1 - collar * ~hanging), worn * collar * ~hanging


def _blurred(image: np.ndarray, zone: np.ndarray, sigma: float) -> np.ndarray:
    """[S, S] or [S, S, C], blurred within the zone [S, S] alone."""
    zone = zone.reshape(*zone.shape, *[1] * (image.ndim - 2))
    sigmas = (sigma, sigma, 0)[: image.ndim]
    weight = ndimage.gaussian_filter(zone, sigmas)
    return ndimage.gaussian_filter(image * zone, sigmas) / np.maximum(weight, 1e-3)
