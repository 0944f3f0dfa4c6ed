"""Paint a person's skin, brows, lips, eyes and the hair's underlayer into the head's UV map."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from omega_cli.avatar.layout import PARSING_LABELS
from omega_cli.data.studio.atlas import Atlas, Zone, axes, fixed, glow, zone_in, zone_of
from omega_cli.data.studio.beards import beard_cover, paint_beard
from omega_cli.data.studio.look import Look
from omega_cli.data.studio.noise import band_noise, bump, skip_noise, smoothstep
from omega_cli.data.studio.ropes import row_angle

LABEL = {name: number for number, name in enumerate(PARSING_LABELS)}
EYE = (0.0294, 0.0277, 0.0716)  # centre of the template's left eyeball, m
LIP_LINE = -0.0400  # m: where the template's lips meet
# Boxes |x|, y, z of the template, m, that hold the brows, the creases.
BROWS = ((-1.0, 0.02, 0.05), (0.065, 0.08, 1.0))
FACE = ((-1.0, -1.0, 0.04), (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Paint:
    """albedo [3, S, S] sRGB; relief [3, S, S]: what to take off the unit normal; gloss [1, S, S];
    labels [S, S] long (PARSING_LABELS); hair [S, S]: share of the scalp's cover, where hair may grow."""

    albedo: Tensor
    relief: Tensor
    gloss: Tensor
    labels: Tensor
    hair: Tensor

    @property
    def size(self) -> int:
        return self.labels.shape[0]

    @functools.cached_property
    def texels(self) -> Tensor:
        """[S * S, 8]: albedo, relief, gloss and a filler, a texel in one piece."""
        planes = torch.cat([self.albedo, self.relief, self.gloss, torch.zeros_like(self.gloss)])
        return planes.flatten(1).T.contiguous()


def hair_cover(atlas: Atlas, look: Look, generator: torch.Generator) -> Tensor:
    """[S, S] in [0, 1]: how densely the scalp is covered; an uneven hairline, thin where it recedes."""
    if look.style == "bald":
        return torch.zeros_like(atlas.scalp_field)
    size, (x, y, z) = atlas.size, axes(atlas)
    ragged = band_noise(size, 64, generator).mul_(0.05).add_(band_noise(size, 240, generator), alpha=0.025)
    forward, grown = _scalp(atlas)
    level = 0.50 + 0.07 * look.hairline * forward
    cover = smoothstep(atlas.scalp_field + ragged - level, -0.07, 0.07)
    if look.style == "receding":
        temples = bump(x.abs(), 0.042, 0.016) * smoothstep(z, 0.0, 0.04) * smoothstep(y, 0.07, 0.09)
        crown = smoothstep(y, 0.085, 0.115) * (0.6 + 0.4 * min(1.0, (look.age - 18) / 40))
        cover = cover * (1 - temples) * (1 - crown * (0.92 + 0.08 * ragged.clamp(-1, 1)))
    return cover.mul_(grown)


@fixed
def _scalp(atlas: Atlas) -> tuple[Tensor, Tensor]:
    """[S, S]: how far to the front of the scalp; and 1 where hair may grow, 0 on the ears."""
    return smoothstep(axes(atlas)[2], 0.0, 0.05), smoothstep(atlas.regions["ears"], 0.5, 0.0) * atlas.covered


def brow_cover(atlas: Atlas, look: Look, generator: torch.Generator) -> Tensor:
    """[S, S] in [0, 1]: brow hair, combed outwards, thinning at both ends."""
    zone = zone_in(atlas, *BROWS)
    x, y, z = zone.x, zone.y, zone.z
    along = (x.abs() - 0.0125) / 0.044  # 0 by the nose, 1 at the temple
    middle = 0.0480 + 0.0032 * torch.sin(along.clamp(0, 1) * math.pi * (0.62 + 0.12 * look.brow_arch))
    middle = middle + 0.0035 * look.brow_arch * bump(along, 0.62, 0.2) - 0.004 * smoothstep(along, 0.7, 1.1)
    half = 0.0047 * look.brow_width * (1 - 0.75 * smoothstep(along, 0.45, 1.05))
    ragged = 0.18 * zone.pick(band_noise(atlas.size, 200, generator))
    inside = smoothstep((y - middle).abs() / half + ragged, 1.15, 0.55)
    inside = inside * smoothstep(along + 0.1 * ragged, -0.04, 0.10) * smoothstep(along, 1.08, 0.9)
    inside = inside * smoothstep(z, 0.05, 0.062) * zone.pick(atlas.covered)
    return zone.put(torch.zeros_like(atlas.scalp_field), inside)


def _wrinkles(atlas: Atlas, age: float, generator: torch.Generator) -> Tensor:
    """Height, m: brow lines, nose-to-mouth folds, crow's feet, eye bags; deeper with age."""
    amount = max(0.0, (age - 28) / 45)
    if not amount:
        skip_noise(atlas.size, 14, generator)
        return torch.zeros_like(atlas.scalp_field)
    zone = zone_in(atlas, *FACE)
    x, y, z = zone.x, zone.y, zone.z
    ax = x.abs()
    warp = 0.003 * zone.pick(band_noise(atlas.size, 14, generator))
    lines = (
        torch.sin((y + warp) * 2 * math.pi / 0.0105).clamp_min(0.3)
        * bump(y, 0.078, 0.012)
        * bump(ax, 0.0, 0.028)
        * smoothstep(z, 0.05, 0.07)
    )
    fold = (
        bump((ax - 0.019) + 0.42 * (y + 0.017) + 0.5 * warp, 0.0, 0.0016)
        * smoothstep(y, -0.050, -0.042)
        * smoothstep(y, -0.010, -0.020)
        * smoothstep(z, 0.05, 0.07)
    )
    feet = torch.sin((y - EYE[1] + 0.35 * (ax - 0.048) * torch.sign(y - EYE[1]) + warp) * 2 * math.pi / 0.006)
    feet = feet.clamp_min(0) * zone.pick(glow(atlas, (0.054, 0.026, 0.070), 0.006))
    bag = bump(y - 0.0155 - 6 * (ax - EYE[0]).square(), 0.0, 0.0013) * bump(ax, EYE[0], 0.010) * (z > 0.05)
    height = -1e-3 * amount * (0.30 * lines + 0.8 * fold + 0.18 * feet + 0.45 * bag)
    return zone.put(torch.zeros_like(atlas.scalp_field), height)


def _relief(atlas: Atlas, height: Tensor) -> Tensor:
    """[3, S, S]: the template-space slope of a height map (m)."""
    over_u, over_v = torch.zeros_like(height), torch.zeros_like(height)
    over_u[:, 1:-1] = (height[:, 2:] - height[:, :-2]) / 2
    over_v[1:-1] = (height[2:] - height[:-2]) / 2
    lift = _covered_lift(atlas)
    return (lift[0] * over_u).addcmul_(lift[1], over_v).clamp_(-0.5, 0.5)


@fixed
def _covered_lift(atlas: Atlas) -> Tensor:
    return atlas.lift * atlas.covered


@fixed
def _zones_of_blood(atlas: Atlas) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """[S, S] where skin is reddest, how dark about the eyes, where freckles gather; [3, S, S]: where bone
    shines through, as a factor."""
    _, y, z = axes(atlas)
    front = smoothstep(z, 0.02, 0.06)
    blood = 0.8 * glow(atlas, (0.040, -0.004, 0.078), 0.016) + 0.9 * glow(atlas, (0.0, -0.006, 0.112), 0.012)
    blood = blood + 0.5 * glow(atlas, (0.0, -0.068, 0.092), 0.013) + 0.6 * atlas.regions["ears"]
    blood = blood + 0.35 * glow(atlas, (0.018, -0.014, 0.094), 0.007)
    socket = glow(atlas, (EYE[0], 0.0175, 0.086), 0.0065) + 0.8 * glow(atlas, (0.017, 0.026, 0.083), 0.006)
    socket = socket + 0.5 * glow(atlas, (EYE[0], 0.037, 0.086), 0.006)
    freckled = glow(atlas, (0.032, 0.004, 0.085), 0.022) + glow(atlas, (0.0, 0.01, 0.1), 0.018) + 0.15 * front
    pale = 1 + 0.05 * bump(y, 0.085, 0.02) * front * _rgb(0.9, 1.0, 0.5)
    return blood, socket.clamp(0, 1), freckled.clamp(0, 1), pale


def _rgb(*values: float) -> Tensor:
    return torch.tensor(values)[:, None, None]


def _complexion(atlas: Atlas, look: Look, creases: Tensor, generator: torch.Generator) -> Tensor:
    """[3, S, S] bare skin: zones of blood and bone, blotches, pores, freckles, moles, and `creases` [S, S]
    in [-1, 0]. Absorption adds up in the exponent."""
    size = atlas.size
    x, y, z = axes(atlas)
    blood, socket, freckled, pale = _zones_of_blood(atlas)
    mottle = band_noise(size, 24, generator) * 0.012
    mottle.add_(band_noise(size, 90, generator), alpha=0.011)
    mottle.add_(band_noise(size, size // 2, generator), alpha=0.016)
    blotch = band_noise(size, 40, generator).mul_(0.5).add_(1)
    strength = blotch.mul_(blood).clamp_(0, 1.2).mul_(look.redness * (0.30 - 0.16 * look.tone))
    absorbed = torch.addcmul(mottle, strength, _rgb(0.10, -0.75, -0.62))
    tired = 0.10 + 0.25 * min(1.0, look.age / 80)
    absorbed.addcmul_(socket, _rgb(0.75, 1.0, 0.8), value=-tired)
    absorbed.addcmul_(creases, _rgb(0.7, 1.0, 1.0), value=0.22)
    if look.freckles:
        spots = band_noise(size, 150, generator).add_(band_noise(size, 40, generator), alpha=0.4)
        spots = smoothstep(spots, 1.0, 1.7).mul_(freckled)
        absorbed.addcmul_(spots, _rgb(0.22, 0.42, 0.55), value=-look.freckles)
    for _ in range(look.moles):
        px, py = (
            float(torch.randn((), generator=generator)) * 0.035,
            float(torch.rand((), generator=generator)) * 0.16 - 0.08,
        )
        radius = 0.0008 + 0.0010 * float(torch.rand((), generator=generator))
        dot = torch.exp(-0.5 * ((x - px).square() + (y - py).square()) / radius**2)
        absorbed.addcmul_(dot * smoothstep(z, 0.02, 0.06), _rgb(0.8, 1.0, 1.0), value=-0.8)
    return absorbed.exp_().mul_(look.skin[:, None, None]).mul_(pale)


@fixed
def _eyeballs(atlas: Atlas) -> Zone:
    return zone_of(atlas, atlas.regions["eyes"] > 0.5)


def _eyes(atlas: Atlas, look: Look, generator: torch.Generator) -> Tensor:
    """[3, n] at `_eyeballs`: sclera with veins, iris with rays and limbus, pupil."""
    zone = _eyeballs(atlas)
    dx, dy = zone.x.abs() - EYE[0], zone.y - EYE[1]
    r, angle = (dx.square() + dy.square()).sqrt() * 1e3, torch.atan2(dy, dx)  # mm from the gaze
    front = (zone.z > EYE[2]).float()
    rays = (
        sum(torch.sin(angle * k + float(torch.rand((), generator=generator)) * 6.28) for k in (9, 17, 26)) / 3
    )
    white = torch.tensor([0.76, 0.72, 0.69]) - 0.05 * look.tone * torch.tensor([0.6, 1.0, 1.6])
    veins = zone.pick(band_noise(atlas.size, 200, generator)).clamp_min(0) * smoothstep(r, 6.0, 11.0)
    colour = white[:, None] - veins * torch.tensor([0.02, 0.08, 0.07])[:, None]
    colour = colour - smoothstep(r, 8, 13) * torch.tensor([0.10, 0.26, 0.24])[:, None]
    iris = look.iris[:, None] * (1.0 + 0.28 * rays * smoothstep(r, 1.8, 3.4) + 0.30 * bump(r, 2.9, 0.8))
    colour = torch.lerp(colour, iris, smoothstep(r, 6.0, 5.5) * front)
    colour = colour * (1 - 0.70 * bump(r, 5.7, 0.42) * front)
    pupil = torch.tensor([0.012, 0.010, 0.010])[:, None]
    colour = torch.lerp(colour, pupil, smoothstep(r, 2.5, 2.0) * front)
    return colour * (1 - 0.35 * smoothstep(dy, 0.0025, 0.0065))  # the upper lid's shade


@fixed
def _mouth(atlas: Atlas) -> tuple[Zone, Tensor]:
    """Teeth, tongue, mouth and lashes: where, and their colours [3, n], the same for all."""
    number = torch.zeros_like(atlas.scalp_field, dtype=torch.long)
    colours = [[0.0] * 3, [0.80, 0.76, 0.68], [0.62, 0.30, 0.30], [0.30, 0.09, 0.09], [0.05, 0.04, 0.04]]
    for i, name in enumerate(("teeth", "tongue", "mouth_inside", "lashes"), start=1):
        number[atlas.regions[name] > 0.5] = i
    zone = zone_of(atlas, number > 0)
    return zone, torch.tensor(colours)[zone.pick(number)].T.contiguous()


@fixed
def _lips(atlas: Atlas) -> tuple[Zone, Tensor]:
    lips = smoothstep(atlas.regions["lips"], 0.2, 0.75)
    zone = zone_of(atlas, lips > 0)
    return zone, zone.pick(lips)


@fixed
def _lid(atlas: Atlas) -> Tensor:
    upper, outer = glow(atlas, (EYE[0], 0.0375, 0.086), 0.0075), glow(atlas, (0.040, 0.034, 0.082), 0.006)
    return (upper + outer).clamp(0, 1)


@fixed
def _rim(atlas: Atlas) -> tuple[Zone, Tensor]:
    eyes = atlas.regions["eyes"]
    rim = smoothstep(atlas.regions["lashes"] + eyes, 0.02, 0.3) * (1 - smoothstep(eyes, 0.5, 0.9))
    zone = zone_of(atlas, rim > 0)
    return zone, zone.pick(rim)


@fixed
def _shine(atlas: Atlas) -> Tensor:
    """[S, S]: how glossy skin is, before `Look.gloss`."""
    x, y, _ = axes(atlas)
    lips = smoothstep(atlas.regions["lips"], 0.2, 0.75)
    nose = 0.5 * glow(atlas, (0.0, -0.005, 0.112), 0.012)
    return 0.35 + nose + 0.3 * bump(y, 0.085, 0.015) * bump(x, 0, 0.03) + 0.45 * lips


@fixed
def _row_angle(atlas: Atlas) -> Tensor:
    return row_angle(atlas.rest)


def _parted(atlas: Atlas, hair: Tensor, rows: Tensor | None) -> Tensor:
    """The cover with bare skin between cornrows at these angles [R] rad."""
    if rows is None:
        return hair
    gap = float(rows[1] - rows[0])
    within = ((_row_angle(atlas) - rows[0]) / gap + 0.5).remainder(1.0) - 0.5
    return hair * smoothstep(within.abs(), 0.46, 0.34)


def paint(atlas: Atlas, look: Look, generator: torch.Generator, rows: Tensor | None = None) -> Paint:
    """A person's whole texture; the gutters are not filled yet. rows: see `_parted`."""
    z = axes(atlas)[2]
    hair, beard = hair_cover(atlas, look, generator), beard_cover(atlas, look.beard, generator)
    brows = brow_cover(atlas, look, generator)
    pores = band_noise(atlas.size, atlas.size // 2, generator)
    height = _wrinkles(atlas, look.age, generator).addcmul_(pores, smoothstep(z, 0.0, 0.05), value=3.5e-5)
    albedo = _complexion(atlas, look, (height / 4e-4).clamp_(-1, 0), generator)

    grain = band_noise(atlas.size, 280, generator)
    ridges = band_noise(atlas.size, 220, generator)
    zone, lips = _lips(atlas)
    zone.blend(albedo, look.lips[:, None] * (1 + 0.07 * zone.pick(ridges)), lips * look.lip_strength)
    if look.shadow:
        lid = look.trim * 0.6 + torch.tensor([0.12, 0.06, 0.06])
        albedo.lerp_(lid[:, None, None], look.shadow * 0.7 * _lid(atlas))
    zone, rim = _rim(atlas)
    zone.scale(albedo, 1 - 0.65 * max(look.liner, 0.35) * rim)
    paint_beard(atlas, look, albedo, beard, grain, generator)
    combed = 0.55 + 0.45 * smoothstep(band_noise(atlas.size, 320, generator), -1.2, 0.6)
    brow_colour = torch.minimum(look.hair * 0.8, look.skin * 0.62) * 0.9
    zone = zone_in(atlas, *BROWS)
    zone.blend(albedo, brow_colour[:, None], zone.pick(brows * combed).mul_(look.brow_density).clamp_(0, 1))
    parted = _parted(atlas, hair, rows)
    if look.style != "bald":
        under = {"buzz": 0.72, "receding": 0.8, "crop": 0.9, "cornrows": 0.85}.get(look.style, 0.95)
        albedo.lerp_(look.hair[:, None, None] * (0.62 + 0.10 * grain), parted * under)
    _eyeballs(atlas).put(albedo, _eyes(atlas, look, generator))
    zone, colours = _mouth(atlas)
    zone.put(albedo, colours)

    gloss = (torch.maximum(hair, beard) * -0.7).add_(1).mul_(_shine(atlas)).mul_(look.gloss)
    gloss = torch.where(atlas.regions["eyes"] > 0.5, 3.0, gloss)
    return Paint(
        albedo.clamp_(0, 1), _relief(atlas, height), gloss[None], _labels(atlas, parted, brows), hair
    )


@fixed
def _under_and_over(atlas: Atlas) -> tuple[Tensor, Tensor]:
    """[S, S] labels of the skin's parts under hair and brows, and of what lies over them (0: nothing)."""
    regions, y = atlas.regions, axes(atlas)[1]
    under = torch.full(y.shape, LABEL["skin"])
    for part, name in (("neck", "neck"), ("boundary", "neck"), ("ears", "ears"), ("nose", "nose")):
        under[regions[part] > 0.5] = LABEL[name]
    over = torch.zeros_like(under)
    over[(regions["lips"] > 0.5) & (y >= LIP_LINE)] = LABEL["upper_lip"]
    over[(regions["lips"] > 0.5) & (y < LIP_LINE)] = LABEL["lower_lip"]
    for part in ("teeth", "tongue", "mouth_inside"):
        over[regions[part] > 0.5] = LABEL["mouth_inside"]
    for part in ("eyes", "lashes"):
        over[regions[part] > 0.5] = LABEL["eyes"]
    return under, over


def _labels(atlas: Atlas, hair: Tensor, brows: Tensor) -> Tensor:
    """[S, S] long. Beards count as skin, as in the public face-parsing sets."""
    under, over = _under_and_over(atlas)
    labels = torch.where(hair > 0.5, LABEL["hair"], under)
    labels = torch.where(brows > 0.45, LABEL["brows"], labels)
    return torch.where(over > 0, over, labels)
