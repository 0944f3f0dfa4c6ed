"""What a blended person is made of (`Recipe`), and how that becomes shape and paint."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.avatar.layout import PARSING_LABELS
from omega_cli.data.studio.light import linear_of
from omega_cli.data.studio.look import HAIR_COLOURS, SKIN_TONES, Draw, between, srgb
from omega_cli.data.studio.occlusion import visibility

if TYPE_CHECKING:
    from omega_cli.data.studio.blends import Blends, Part

LABEL = {name: number for number, name in enumerate(PARSING_LABELS)}
HAIR_CENTRE = (0.0, 0.03, -0.005)  # m: sculpted hair swells away from here
MIDDLE = (0.0, 0.0, -0.01)  # m, of the maps that tell shade
BAKED = 0.9  # of the textures' light: they were painted with highlights, for a dimmer shader
DIM = 0.08  # added to light and dark before they are compared: black hair has little but noise in it
LUMA = (0.30, 0.59, 0.11)
DYES = {
    "black": 2.5, "soft black": 2.0, "dark brown": 2.5, "brown": 2.5, "light brown": 2.0, "dark blond": 1.5,
    "blond": 2.0, "platinum": 1.0, "auburn": 1.0, "copper": 1.0, "blue": 0.3, "pink": 0.3, "green": 0.15,
    "wine": 0.3, "grey": 1.2, "white": 1.0,
}  # fmt: skip
GREYS = {"grey": (128, 126, 124), "white": (214, 212, 208)}
# expressions worth showing: stems of the shapes' names, how often, up to how strong
PLAY = (
    (("RsmileClose_h", "LsmileClose_h"), 1.5, 0.8),
    (("RsmileOpen_h", "LsmileOpen_h"), 1.5, 0.8),
    (("MouthOpen_h",), 1.0, 0.6),
    (("AE_AA_h",), 0.7, 0.8),
    (("UW_U_h",), 0.7, 0.7),
    (("Kiss_h",), 0.4, 0.7),
    (("RmouthSad_h", "LmouthSad_h"), 0.5, 0.7),
    (("RRbrowUp_h", "RbrowUp_h", "LbrowUp_h", "LLbrowUp_h"), 0.8, 0.8),
    (("RRbrowDown_h", "RbrowDown_h", "LbrowDown_h", "LLbrowDown_h"), 0.7, 0.8),
    (("ReyeClose_h", "LeyeClose_h"), 0.6, 0.9),
    (("Rsquint_h", "Lsquint_h"), 0.6, 0.8),
)
SHOULDER_X, SHOULDER_Y, BEND = 0.10, -0.19, 0.09  # m: where a shoulder starts to fall, its axis, over how far


@dataclass(frozen=True)
class Recipe:
    """Indices are of `Blends.names`; colours sRGB [3]; lengths in metres.

    faces with face_weights make the face, hairs with hair_weights what lies behind it, cloth the clothes;
    wig: whose wig is worn; exaggerate: 1 leaves the face as mixed, more draws it away from the mean; buzz:
    whose hairline is shaved onto a bald scalp; None colours stay as they are; stretch [3] of the whole head.
    """

    faces: tuple[int, ...]
    face_weights: tuple[float, ...]
    hairs: tuple[int, ...]
    hair_weights: tuple[float, ...]
    cloth: int
    expression: Tensor
    stretch: Tensor
    crowd: tuple[int, ...] = ()  # whose mean the face is exaggerated from
    wig: int | None = None
    exaggerate: float = 1.0
    buzz: int | None = None
    buzz_depth: float = 0.0
    dye: Tensor | None = None
    contrast: float = 1.0
    skin_tone: Tensor | None = None
    cloth_colour: Tensor | None = None
    volume: float = 0.0
    bumps: Tensor | None = None  # [3, W] wave vectors of the volume's unevenness
    length: float = 1.0
    width: float = 0.0
    wave: float = 0.0
    wave_vectors: Tensor | None = None
    mirrored: bool = False
    fall: float = 0.0  # radians that the shoulders drop

    @property
    def used(self) -> set[int]:
        extra = {i for i in (self.wig, self.buzz) if i is not None}
        return {*self.faces, *self.hairs, self.cloth, *extra}


def plain_recipe(index: int, blends: Blends) -> Recipe:
    wig = index if blends.names[index] in blends.wigs else None
    still = torch.zeros(len(blends.expression_names))
    return Recipe((index,), (1.0,), (index,), (1.0,), index, still, torch.ones(3), wig=wig)


def draw_recipe(seed: int, blends: Blends, allowed: list[int]) -> Recipe:
    """A random person of the heads `allowed`."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + 77_713) % (2**63 - 1))
    draw = Draw(generator)
    normal = lambda *size: torch.randn(*size, generator=generator)  # noqa: E731
    faces = _some(draw, allowed, 2 + int(3 * draw.uniform()))
    face_weights = _shares(draw, len(faces), 0.8)
    sculpted = [i for i in allowed if i not in blends.wigged]
    bare = [i for i in allowed if i in blends.wigged]
    kind = draw.one({"sculpted": 5.5 * bool(sculpted), "wig": 4.0 * bool(bare), "bald": 0.8 * bool(bare)})
    wig = buzz = None
    if kind == "sculpted":
        hairs = _some(draw, sculpted, 1 + int(2 * draw.uniform()))
        hair_weights = _shares(draw, len(hairs), 0.4)
    else:
        hairs, hair_weights = _some(draw, bare, 1), (1.0,)
        if kind == "wig":
            wig = hairs[0]
        elif sculpted and draw.chance(0.7):
            buzz = _some(draw, sculpted, 1)[0]
    waves = torch.stack([draw.uniform(60, 200) * normal(3) for _ in range(3)], 1) / 1.7
    stretch = (1 + 0.02 * normal(3).clamp(-2, 2)) * (1 + 0.02 * draw.normal())
    return Recipe(
        faces=faces,
        face_weights=face_weights,
        hairs=hairs,
        hair_weights=hair_weights,
        cloth=_some(draw, allowed, 1)[0],
        expression=_expression(draw, blends.expression_names),
        stretch=stretch,
        crowd=tuple(allowed),
        wig=wig,
        exaggerate=draw.uniform(1.0, 1.6),
        buzz=buzz,
        buzz_depth=draw.uniform(0.3, 0.9),
        dye=_dye(draw) if draw.chance(0.75) else None,
        contrast=draw.uniform(0.5, 1.2),
        skin_tone=_tone(draw, blends, faces, face_weights),
        cloth_colour=draw.colour(0.7) if draw.chance(0.75) else None,
        volume=0.036 * draw.uniform() ** 2 if draw.chance(0.6) and kind == "sculpted" else 0.0,
        bumps=4.0 * normal(3, 5),
        length=draw.uniform(0.35, 1.12),
        width=draw.uniform(-0.04, 0.28) * (draw.uniform() ** 0.7),
        wave=draw.uniform(0.001, 0.006) if draw.chance(0.5) else 0.0,
        wave_vectors=waves,
        mirrored=draw.chance(0.5),
        fall=math.radians(draw.uniform(12, 42)),
    )


def _some(draw: Draw, of: list[int], count: int) -> tuple[int, ...]:
    order = torch.randperm(len(of), generator=draw.generator)[:count]
    return tuple(of[int(i)] for i in order)


def _shares(draw: Draw, count: int, alpha: float) -> tuple[float, ...]:
    """One draw of a symmetric Dirichlet distribution, largest first."""
    state = int(torch.randint(2**31, (), generator=draw.generator))
    # torch's own Dirichlet takes no generator
    import numpy as np

    shares = np.random.default_rng(state).dirichlet([alpha] * count)
    return tuple(sorted(map(float, shares), reverse=True))


def _dye(draw: Draw) -> Tensor:
    name = draw.one(DYES)
    colour = srgb(GREYS[name] if name in GREYS else HAIR_COLOURS[name])
    return (colour * draw.uniform(0.8, 1.25)).clamp(0.045, 0.80)


def _tone(draw: Draw, blends: Blends, faces: tuple[int, ...], weights: tuple[float, ...]) -> Tensor:
    own = _mixed(blends.skin_colour, faces, weights)
    if draw.chance(0.35):
        goal = between(SKIN_TONES, draw.uniform())
        own = own * (goal / own.clamp_min(0.02)).clamp(0.4, 2.2) ** draw.uniform(0.5, 0.9)
    jitter = torch.exp(0.02 * torch.randn(3, generator=draw.generator)) * math.exp(draw.normal(0, 0.07))
    tone = (own * jitter).clamp_min(0.06)
    return tone * min(1.0, 0.86 / float(tone.max()))  # all of it: a clipped channel would turn skin green


def _expression(draw: Draw, names: tuple[str, ...]) -> Tensor:
    """[E]: nothing, or one or two of PLAY."""
    out = torch.zeros(len(names))
    plays = {str(i): p[1] for i, p in enumerate(PLAY) if all(n in names for n in p[0])}
    for _ in range(int(2.99 * draw.uniform()) if plays else 0):
        stems, _, most = PLAY[int(draw.one(plays))]
        strength = most * draw.uniform() * draw.uniform(0.5, 1.0)
        for stem in stems:
            out[names.index(stem)] = max(float(out[names.index(stem)]), strength * draw.uniform(0.8, 1.0))
    return out


def _mixed(values: Tensor, idx: tuple[int, ...], weights: tuple[float, ...]) -> Tensor:
    """Weighted sum of rows as floats; bytes are read as shares of 255."""
    unit = 1 / 255 if values.dtype == torch.uint8 else 1.0
    out = values[idx[0]].float() * (weights[0] * unit)
    for i, w in zip(idx[1:], weights[1:], strict=True):
        out.add_(values[i].float(), alpha=w * unit)
    return out


def shape(blends: Blends, recipe: Recipe) -> Tensor:
    """[B, 3] m at rest, before the stretch."""
    face = _mixed(blends.vertices, recipe.faces, recipe.face_weights)
    if recipe.exaggerate != 1:
        mean = blends.mean_of(list(recipe.crowd))
        face = mean + recipe.exaggerate * (face - mean)
    back = _mixed(blends.vertices, recipe.hairs, recipe.hair_weights)
    out = torch.lerp(face, back, blends.scalp_v[:, None])
    out = torch.lerp(out, blends.vertices[recipe.cloth], blends.cloth_v[:, None])
    if recipe.volume and recipe.bumps is not None:
        out = out + _swell(blends, recipe, out)
    if recipe.fall:
        out = torch.lerp(out, _fallen(out, recipe.fall), blends.cloth_v[:, None])
    return out


def _swell(blends: Blends, recipe: Recipe, vertices: Tensor) -> Tensor:
    """[B, 3]: sculpted hair grows outward, unevenly, less towards the nape."""
    assert recipe.bumps is not None
    cover = _mixed(blends.hair, recipe.hairs, recipe.hair_weights)[None, None]
    at = (2 * blends.uv - 1)[None, None]
    hairy = F.grid_sample(cover, at, align_corners=False)[0, 0, 0] * blends.scalp_v**2
    ray = F.normalize(vertices - torch.tensor(HAIR_CENTRE), dim=1)
    bumps = torch.sin(ray @ recipe.bumps + torch.arange(recipe.bumps.shape[1])).mean(1)
    high = ((ray[:, 1] + 0.4) / 0.5).clamp(0, 1)
    return ray * (hairy * recipe.volume * (1 + 0.7 * bumps) * high)[:, None]


def _fallen(vertices: Tensor, angle: float) -> Tensor:
    """Shoulders bent downwards around their axis, as arms that hang."""
    x, y, z = vertices.unbind(1)
    s = x.abs() - SHOULDER_X
    turn = angle * (s / BEND).clamp(0, 1)
    inner, rest = s.clamp(0, BEND) / BEND * angle, (s - BEND).clamp_min(0)
    radius = BEND / angle
    along = radius * torch.sin(inner) + rest * math.cos(angle)
    down = radius * (1 - torch.cos(inner)) + rest * math.sin(angle)
    lift = y - SHOULDER_Y
    bent = torch.stack(
        [
            x.sign() * (SHOULDER_X + along + lift * torch.sin(turn)),
            SHOULDER_Y - down + lift * torch.cos(turn),
            z,
        ],
        1,
    )
    return torch.where((s > 0)[:, None], bent, vertices)


def shapes(blends: Blends, recipe: Recipe) -> Tensor:
    """[E, Q, 3] m: the expressions of the mixed face, before the stretch."""
    out = torch.zeros(blends.expressions.shape[1:])
    for i, w in zip(recipe.faces, recipe.face_weights, strict=True):
        out += (blends.expressions[i].float().view(-1, 3) @ (blends.turns[i].T * (1e-4 * w))).view_as(out)
    return out


def cut_wig(part: Part, recipe: Recipe) -> Part:
    """Longer or shorter, wider, waved, parted on the other side."""
    x, y, z = part.vertices.unbind(1)
    low = (0.02 - y).clamp_min(0)
    y = y + low * (1 - recipe.length)
    wider = 1 + recipe.width * ((0.10 - y) / 0.2).clamp(0, 1)
    z = torch.where(z < 0.0, -0.03 + (z + 0.03) * wider, z)
    vertices = torch.stack([x * wider, y, z], 1)
    if recipe.wave and recipe.wave_vectors is not None:
        grown = (low / 0.06).clamp(0, 1)[:, None]
        vertices = vertices + recipe.wave * torch.sin(part.vertices @ recipe.wave_vectors) * grown
    if not recipe.mirrored:
        return replace(part, vertices=vertices)
    return replace(part, vertices=vertices * torch.tensor([-1.0, 1.0, 1.0]), faces=part.faces.flip(1))


def _ratio(to: Tensor, of: Tensor) -> Tensor:  # [3] each -> [3, 1, 1]
    return (to / of.clamp_min(0.02)).clamp(0.1, 8)[:, None, None]


def _luma(rgb: Tensor) -> Tensor:  # [3, ...] -> [...]
    return torch.tensordot(torch.tensor(LUMA), rgb, 1)


def _dyed(rgb: Tensor, colour: Tensor, cover: Tensor, contrast: float) -> Tensor:
    """[3, S, S] towards `colour` [3] where cover [S, S], with the light and dark of what was there."""
    level = _luma(rgb)
    mean = float((level * cover).sum() / cover.sum().clamp_min(1))
    contrast = contrast * (1 - 0.5 * float(colour.mean()))  # light hair would burn out
    # at a border skin or collar shines through: not the covered material's own light and dark
    level = level - (1 - cover) * (level - mean)
    tone = (1 + contrast * (((level + DIM) / (mean + DIM)).clamp_max(1.8) - 1)).clamp_min(0.2)
    return torch.lerp(rgb, (colour[:, None, None] * tone).clamp(0, 1), cover)


def dye_wig(texture: Tensor, recipe: Recipe) -> Tensor:
    """[3, T, T] uint8 -> linear albedo."""
    rgb = texture.float() / 255
    if recipe.dye is not None:
        rgb = _dyed(rgb, recipe.dye, torch.ones(rgb.shape[1:]), recipe.contrast)
    return BAKED * linear_of(rgb)


def paint(blends: Blends, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Linear albedo [3, S, S] and labels [S, S] of the base mesh and the teeth."""
    colour = _mixed(blends.skin_colour, recipe.faces, recipe.face_weights)
    own, hair = _bare_faces(blends, recipe, colour)
    # behind the face: another's hair, on skin of this one's colour
    back = _mixed(blends.skins, recipe.hairs, recipe.hair_weights)
    cover = _mixed(blends.hair, recipe.hairs, recipe.hair_weights)
    there = _mixed(blends.skin_colour, recipe.hairs, recipe.hair_weights)
    back = back * torch.lerp(_ratio(colour, there), torch.ones(1), cover)
    if recipe.buzz is not None:
        cover = recipe.buzz_depth * blends.hair[recipe.buzz].float() / 255
        stubble = 0.35 * colour if recipe.dye is None else 0.5 * (recipe.dye + 0.35 * colour)
        back = torch.lerp(back, stubble[:, None, None].expand_as(back), cover)
    behind = torch.maximum(blends.scalp, cover)
    rgb, hair = torch.lerp(own, back, behind), torch.lerp(hair, cover, behind)
    # below the chin: another's clothes; nothing stays of the collars of those who gave the face
    dress = blends.dress[recipe.cloth].float() / 255
    worn = torch.stack([blends.dress[i] for i in (*recipe.faces, *recipe.hairs, recipe.cloth)]).amax(0)
    below = torch.maximum(blends.cloth, worn.float() / 255) * (1 - blends.hair[recipe.cloth] / 255)
    match = torch.lerp(_ratio(colour, blends.skin_colour[recipe.cloth]), torch.ones(1), dress)
    clothes = blends.skins[recipe.cloth].float() / 255 * match
    rgb, hair = torch.lerp(rgb, clothes, below), hair * (1 - below)
    if recipe.dye is not None and recipe.buzz is None:
        rgb = _dyed(rgb, recipe.dye, hair, recipe.contrast)
    if recipe.skin_tone is not None:
        bare = ((1 - hair) * (1 - dress))[None]
        rgb = rgb * torch.lerp(torch.ones(1), _ratio(recipe.skin_tone, colour), bare)
    if recipe.cloth_colour is not None:
        rgb = _dyed(rgb, recipe.cloth_colour, dress, recipe.contrast)
    # eyes and teeth are one head's own: mixed, they would be nobody's
    parts = blends.skins[recipe.faces[0]].float() / 255
    rgb = torch.where(blends.face_zone > 0.5, rgb, parts).clamp(0, 1)
    labels = torch.where(dress > 0.5, LABEL["cloth"], blends.labels)
    labels = torch.where((hair > 0.5) & (labels != LABEL["ears"]), LABEL["hair"], labels)
    return BAKED * linear_of(rgb), labels


def _bare_faces(blends: Blends, recipe: Recipe, colour: Tensor) -> tuple[Tensor, Tensor]:
    """The mixed face's texture [3, S, S] and hair cover [S, S]. Fringes and sideburns of mixed faces go, for
    a mean of hair and skin is neither: whoever gives the hair gives those too."""
    if len(recipe.faces) == 1:
        return blends.skins[recipe.faces[0]].float() / 255, blends.hair[recipe.faces[0]].float() / 255
    rgb, hair, total = torch.zeros(blends.skins.shape[1:]), torch.zeros(()), torch.zeros(())
    for i, w in zip(recipe.faces, recipe.face_weights, strict=True):
        # hair and the shadow along it
        cover = F.max_pool2d(blends.hair[i][None].float() / 255, 7, 1, 3)[0]
        share = w * (1.01 - cover)
        match = _ratio(colour, blends.skin_colour[i])  # or a place that one head fills would stand out
        rgb += blends.skins[i] * match * (share / 255)
        hair, total = hair + w * cover, total + share
    gone = ((hair - 0.6) / 0.35).clamp(0, 1)  # where too little skin is left to tell its colour
    return torch.lerp(rgb / total, (0.95 * colour)[:, None, None].expand_as(rgb), gone), torch.zeros_like(
        hair
    )


def shade(vertices: Tensor, faces: Tensor) -> Tensor:
    """[V, D] `occlusion.visibility` of the vertices, smoothed as vertices are coarse."""
    seen = visibility(vertices, faces, MIDDLE, vertices)
    corners = faces.T.reshape(-1)
    degree = torch.bincount(corners, minlength=len(vertices)).clamp_min(1)[:, None]
    mean = seen[faces].mean(1).repeat(3, 1)
    return torch.zeros_like(seen).index_add_(0, corners, mean) / degree
