"""The head's colour as a UV texture: seen, mirrored, continued (skin) or synthesised (hair)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.mesh import edges as mesh_edges
from ..geometry.mesh import vertex_normals
from ..geometry.uvmap import rasterize_uv
from ..head.model import HeadModel
from . import blur
from . import hair as hair_maths
from .fill import harmonic_fill, push_pull
from .headgear import continued_around
from .photo import Photo, Samples, sample

# Labels of source/parsing.png (avatar/layout.py).
SKIN, EYES, EARS, NOSE, MOUTH_INSIDE, NECK, CLOTH, HAIR, HAT = 1, 3, 5, 7, 8, 11, 13, 14, 15
PLAIN_SKIN = (SKIN, NOSE, EARS, NECK)
HAIR_LIKE = (HAIR, HAT)
# Hair on a face seen at a lower cosine hangs beside it; at the temples it lies on it. Ours.
BESIDE_CHEEK, BESIDE_TEMPLE = 0.55, 0.25
COLLAR_RISE = 0.45  # m per m backwards: low at the throat, high at the nape, as the bust's own edge. Ours.
SHOULDERS = -0.05  # m: their crest lies behind the ears. Ours.


@dataclass(frozen=True)
class Surface:
    """The fitted, inflated head in the head frame: vertices, normals [V, 3] and the model it belongs to."""

    model: HeadModel
    vertices: Tensor
    normals: Tensor
    mirror: Tensor  # [V] long

    @cached_property
    def edges(self) -> np.ndarray:  # [E, 2]
        return mesh_edges(self.model.faces).cpu().numpy()

    @cached_property
    def flags(self) -> Tensor:  # [V, 7], see part_flags
        return part_flags(self.model)

    @staticmethod
    def of(model: HeadModel, vertices: Tensor, mirror: Tensor) -> Surface:
        return Surface(model, vertices, vertex_normals(vertices, model.faces), mirror)


@dataclass(frozen=True)
class Evidence:
    """What photo and mirror together say of N points: rgb [N, 3], weight [N] in [0, 1], label [N]."""

    rgb: Tensor
    weight: Tensor
    label: Tensor

    def share(self, label: int, among: Tensor) -> float:
        """Part of what is seen of `among` [N] bool that bears the label."""
        weight = self.weight[among]
        return float(weight[self.label[among] == label].sum() / weight.sum().clamp_min(1e-6))


def is_in(labels: Tensor, values: tuple[int, ...]) -> Tensor:
    return torch.isin(labels, labels.new_tensor(values))


def gather(photo: Photo, surface: Surface, vertex_idx: Tensor, barycentric: Tensor, mirror: bool) -> Evidence:
    """Photo evidence for points given as three vertices [N, 3] and barycentric weights [N, 3].

    The mirrored point speaks only as far as the point itself is not seen, so that the seam is soft.
    """
    flags = (surface.flags[vertex_idx] * barycentric[..., None]).sum(1)

    def at(idx: Tensor) -> Samples:
        points = (surface.vertices[idx] * barycentric[..., None]).sum(1)
        normals = F.normalize((surface.normals[idx] * barycentric[..., None]).sum(1), dim=-1)
        found = sample(photo, points, normals)
        return replace(found, weight=found.weight * permitted(found, flags))

    own = at(vertex_idx)
    if not mirror:
        return Evidence(own.rgb, own.weight, own.label)
    other = at(surface.mirror[vertex_idx])
    # A slanted view of the point itself gives way to a straight view of its mirror image.
    quality, rival = own.weight * own.facing.clamp_min(0), other.weight * other.facing.clamp_min(0)
    t = ((quality - 0.1) / 0.3).clamp(0, 1)
    stay = torch.where(rival > quality + 0.1, t * t * (3 - 2 * t), 1.0)
    kept, lent = own.weight * stay, other.weight * (1 - own.weight * stay)
    total = kept + lent
    rgb = (own.rgb * kept[:, None] + other.rgb * lent[:, None]) / total[:, None].clamp_min(1e-8)
    return Evidence(rgb, total.clamp(0, 1), torch.where(kept >= lent, own.label, other.label))


def part_flags(model: HeadModel) -> Tensor:  # [V, 7]
    """Per vertex: inside of the mouth, neck, eyeball, lash, ear, face, face below the eyes."""
    r = model.regions
    inside = r["teeth"] | r["tongue"] | r["mouth_inside"]
    cheek = r["face"] & (model.v_template[:, 1] < model.v_template[r["eyes"], 1].mean() - 0.01)
    parts = [inside, r["neck"] | r["boundary"], r["eyes"], r["lashes"], r["ears"], r["face"], cheek]
    return torch.stack(parts, 1).float()


def permitted(found: Samples, flags: Tensor) -> Tensor:  # flags [N, 7] (part_flags) -> [N] in [0, 1]
    """May the pixel found paint this part of the head?

    Background paints nothing, a collar the neck alone. A fringe paints the face, but what lies beside the
    cheek in the picture is hair or ear behind it. An eyeball lies a hair's breadth behind its lids, so
    only what the parsing calls an eye is one. What the photo shows through an open mouth is teeth, what it
    shows of closed lips is not. Lashes are too thin to be seen.
    """
    inside, low, eyeball, lash, ear, face, cheek = flags.T
    label = found.label
    share = torch.where(label == CLOTH, low, (label != 0).float())
    share = share * ((inside < 0.5) | (label == MOUTH_INSIDE))
    share = share * ((eyeball < 0.5) | (label == EYES)) * (lash < 0.5)
    slanted = found.facing < torch.where(cheek > 0.5, BESIDE_CHEEK, BESIDE_TEMPLE)
    beside = (label == EARS) | (is_in(label, HAIR_LIKE) & slanted)
    share = share * ((face < 0.5) | ~beside)
    return share * ((ear < 0.5) | is_in(label, (EARS, *HAIR_LIKE)))


def hair_field(
    surface: Surface, seen: Evidence, hair_bottom: float, hidden_ears: tuple[bool, bool]
) -> Tensor:  # [V] in [0, 1]
    """Where the head wears hair. Seen vertices know; the rest follow their neighbours and priors."""
    regions, scalp = surface.model.regions, surface.model.regions["scalp"]
    prior = surface.vertices.new_zeros(len(surface.vertices))
    trust = torch.full_like(prior, 0.15)
    # what a hat covers is taken for hair: hair shows below it, or the prior is never looked at
    bare = 1 - seen.share(HAIR, scalp) - seen.share(HAT, scalp)
    prior[scalp], trust[scalp] = float(bare < 0.75 and math.isfinite(hair_bottom)), 0.3
    trust[scalp & (surface.normals[:, 2] < 0.1)] = 3.0
    for side, hidden in zip(("left_ear", "right_ear"), hidden_ears, strict=True):
        prior[regions[side]], trust[regions[side]] = float(hidden), 4.0
    nape = (regions["neck"] | regions["boundary"]) & (surface.normals[:, 2] < 0.2)
    prior[nape] = ((surface.vertices[nape, 1] - hair_bottom) / 0.012 + 0.5).clamp(0, 1)
    trust[nape] = 0.5
    return label_field(surface, seen, (HAIR, HAT), prior, trust)


def hat_field(surface: Surface, seen: Evidence) -> Tensor:  # [V] in [0, 1]
    """Where the head wears a hat: as low behind as the photo shows it at the sides; a headscarf, which covers
    the neck, all the way down."""
    regions, scalp = surface.model.regions, surface.model.regions["scalp"]
    if seen.share(HAT, scalp) < 0.1:
        return torch.zeros_like(seen.weight)
    coverable = scalp | regions["ears"] | regions["neck"] | regions["boundary"]
    hat = coverable & (seen.label == HAT) & (seen.weight > 0.3)
    brim = surface.vertices[hat, 1].quantile(0.1) if hat.any() else torch.tensor(0.08)
    if seen.share(HAT, regions["neck"]) > 0.3:
        brim = surface.vertices[:, 1].min()
    prior = ((surface.vertices[:, 1] - brim) / 0.008 + 0.5).clamp(0, 1) * coverable
    return label_field(surface, seen, (HAT,), prior, torch.full_like(prior, 0.5))


def cloth_field(surface: Surface, photo: Photo, seen: Evidence) -> Tensor:  # [V] in [0, 1]
    """Where the neck wears cloth: as high behind as the photo shows the collar at the sides; of a neckline so
    wide that the mesh meets none in front, up to where the shoulders' cloth goes on, rising to the nape."""
    low = surface.model.regions["neck"] | surface.model.regions["boundary"]
    cloth = low & (seen.label == CLOTH) & (seen.weight > 0.3)
    if cloth.sum() >= 20:
        height, collar = surface.vertices[:, 1], surface.vertices[cloth, 1]
    else:
        height, collar = rising(surface.vertices), rising(cloth_beside(photo))
    if not len(collar):
        return torch.zeros_like(seen.weight)
    prior = ((collar.quantile(0.8) - height) / 0.006 + 0.5).clamp(0, 1) * low
    return label_field(surface, seen, (CLOTH,), prior, torch.where(low, 0.6, 8.0))


def cloth_beside(photo: Photo) -> Tensor:  # [N, 3] m
    """The upper edge of the photo's cloth, for necklines so wide that the mesh meets none in front: the crest
    of the shoulders, on either side of the neck. Empty where the photo shows (almost) no cloth."""
    mask = shown(photo, (CLOTH,))
    if mask is None:
        return photo.camera.viewmat.new_zeros(0, 3)
    columns = torch.nonzero(mask[0].any(0))[:, 0]
    rows = mask[0].to(torch.uint8).argmax(0)[columns]
    crest = photo.camera.to_camera(mask.new_tensor([0, 0, SHOULDERS]))[2]
    return photo.camera.unproject(torch.stack([columns, rows], -1) + 0.5, crest.expand(len(rows)))


def rising(points: Tensor) -> Tensor:  # [..., 3] m, head frame -> [...] m
    """Height over the plane in which a collar lies around the neck's root, the same all along the collar."""
    return points[..., 1] + COLLAR_RISE * points[..., 2]


def label_field(
    surface: Surface, seen: Evidence, labels: tuple[int, ...], prior: Tensor, trust: Tensor
) -> Tensor:  # [V] in [0, 1]
    """Harmonic field of a label from what is seen and what is assumed (prior, trust [V])."""
    known = seen.weight * 4
    values = (known * is_in(seen.label, labels) + trust * prior) / (known + trust)
    return over_skin(surface, values[:, None], known + trust)[:, 0].clamp(0, 1)


def over_skin(surface: Surface, values: Tensor, confidence: Tensor, pull: float = 1e-6) -> Tensor:
    """`harmonic_fill` of vertex values [V, C] over the skin."""
    domain = surface.model.regions["skin"].cpu().numpy()
    known = values.cpu().numpy(), confidence.cpu().numpy()
    filled = harmonic_fill(*known, surface.edges, domain, pull, values.device)
    return torch.from_numpy(filled).to(values)


def sharpen(field: Tensor) -> Tensor:
    """A soft edge at 0.45: labels do not mix over centimetres."""
    return ((field - 0.3) / 0.3).clamp(0, 1)


def shown(photo: Photo, labels: tuple[int, ...]) -> Tensor | None:  # [1, H, W]
    """Where the photo shows these labels, edges left out; None where it shows (almost) nothing of them."""
    mask = (is_in(photo.labels, labels) & (photo.alpha[0] > 0.9)).float()[None]
    mask = 1 - F.max_pool2d(1 - mask[None], 5, 1, 2)[0]
    return mask if mask.sum() >= 60 else None


def continued_colour(surface: Surface, photo: Photo, labels: tuple[int, ...], mirror: bool) -> Tensor | None:
    """[V, 3]: the photo's colour of the given labels, continued smoothly over the whole skin.

    None when the photo shows (almost) nothing of these labels.
    """
    mask = shown(photo, labels)
    if mask is None:
        return None
    blurred = Photo(
        blur.within(photo.rgb, mask, 3.0),
        photo.alpha * mask,
        photo.labels,
        photo.depth,
        photo.camera,
    )
    n = len(surface.vertices)
    corners = torch.arange(n, device=mask.device)[:, None].expand(-1, 3)
    seen = gather(blurred, surface, corners, surface.vertices.new_tensor([1.0, 0, 0]).expand(n, -1), mirror)
    trust = seen.weight * is_in(seen.label, labels)
    if trust.sum() < 5:
        flat = (photo.rgb * mask).sum((1, 2)) / mask.sum()
        return flat.expand(n, 3)
    # a pull of ten links, about 5 cm: rims of light do not run around the head
    return over_skin(surface, seen.rgb, 4 * trust * seen.weight, pull=0.01).clamp(0, 1)


def person_albedo(model: HeadModel, photo: Photo, skin: Tensor | None) -> Tensor:  # [V, 3]
    """The model's generic colours for eyes, teeth, tongue and mouth in the photo's light."""
    if model.albedo is None:
        base = torch.full_like(model.v_template, 0.5)
        return base if skin is None else skin
    if skin is None:
        return model.albedo
    face = model.regions["face"]
    tint = (skin[face].mean(0) / model.albedo[face].mean(0).clamp_min(0.05)).clamp(0.4, 1.6)
    return (model.albedo * tint.mean().clamp(0.55, 1.1)).clamp(0, 1)


def build_texture(
    surface: Surface,
    photo: Photo,
    size: int,
    mirror: bool,
    hair_bottom: float,
    hidden_ears: tuple[bool, bool],
    generator: torch.Generator,
) -> Tensor:  # [3, size, size]
    """The whole head's texture; texels outside the layout are filled from their neighbours."""
    model = surface.model
    n = len(surface.vertices)
    corner = surface.vertices.new_tensor([1.0, 0, 0]).expand(n, -1)
    itself = torch.arange(n, device=corner.device)[:, None].expand(-1, 3)
    at_vertices = gather(photo, surface, itself, corner, mirror)
    worn = hair_field(surface, at_vertices, hair_bottom, hidden_ears)
    skin = continued_colour(surface, photo, PLAIN_SKIN, mirror)
    hair = continued_colour(surface, photo, (HAIR,), mirror)
    albedo = person_albedo(model, photo, skin)
    skin = albedo if skin is None else torch.where(model.regions["skin"][:, None], skin, albedo)
    cloth = continued_colour(surface, photo, (CLOTH,), mirror)
    if cloth is not None:
        dressed = cloth_field(surface, photo, at_vertices)
        skin = torch.lerp(skin, cloth, sharpen(dressed)[:, None])
    if hair is None:
        hair, worn = skin, torch.zeros_like(worn)

    face_index, barycentric = rasterize_uv(model.uvs, model.uv_faces, size)
    covered = face_index >= 0
    corners = model.faces[face_index[covered]]
    b = barycentric[covered]

    def on_texels(per_vertex: Tensor) -> Tensor:
        return (per_vertex[corners] * b[..., None]).sum(1)

    seen = gather(photo, surface, corners, b, mirror)
    points = on_texels(surface.vertices)
    mask = ((photo.labels == HAIR) & (photo.alpha[0] > 0.9)).float()[None]
    strand = hair_strands(photo, mask, generator)
    hair_texel = on_texels(hair)
    if strand is not None:
        hair_texel = hair_texel + hair_maths.read_chart(strand, hair_maths.chart_coordinates(points))
    guess = torch.lerp(on_texels(skin), hair_texel, sharpen(on_texels(worn[:, None])))
    if shown(photo, (HAT,)) is not None:
        of_hat = seen.weight * (seen.label == HAT)
        around = continued_around(points, seen.rgb, of_hat, points, float(points[:, 2].mean()))
        guess = torch.lerp(guess, around, sharpen(on_texels(hat_field(surface, at_vertices)[:, None])))

    inside = on_texels(surface.flags[:, :1])[:, 0] > 0.5
    guess = torch.where(inside[:, None], on_texels(albedo), guess)
    texel = torch.lerp(guess, seen.rgb, seen.weight[:, None])

    texture = texel.new_zeros(3, size, size)
    texture[:, covered] = texel.T.clamp(0, 1)
    return push_pull(texture, covered[None].float())


def hair_strands(photo: Photo, mask: Tensor, generator: torch.Generator) -> Tensor | None:
    """Detail chart from the photo's hair pixels, or None where it shows no hair."""
    inner = 1 - F.max_pool2d(1 - mask[None], 5, 1, 2)[0]
    hit = (inner[0] > 0) & photo.depth.isfinite()
    if hit.sum() < 60:
        return None
    detail = hair_maths.photo_detail(photo.rgb, inner)
    rows, columns = torch.nonzero(hit, as_tuple=True)
    pixels = torch.stack([columns, rows], -1) + 0.5
    points = photo.camera.unproject(pixels, photo.depth[rows, columns])
    return hair_maths.synthesise_chart(
        detail[:, rows, columns].T, hair_maths.chart_coordinates(points), generator
    )


def mirror_of(model: HeadModel) -> Tensor:  # [V] long
    """The model's left-right map, or nearest vertices across x = 0 for models that carry none."""
    if model.mirror_index is not None:
        return model.mirror_index
    from scipy.spatial import KDTree

    template = model.v_template.numpy()
    return torch.from_numpy(KDTree(template * np.array([-1.0, 1.0, 1.0])).query(template)[1]).long()
