"""Paint a person's skin, brows, lips, eyes and the hair's underlayer into the head's UV map."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from omega_cli.avatar.layout import PARSING_LABELS
from omega_cli.data.studio.atlas import Atlas
from omega_cli.data.studio.look import Look
from omega_cli.data.studio.noise import ball, band_noise, bump, smoothstep

LABEL = {name: number for number, name in enumerate(PARSING_LABELS)}
EYE = (0.0294, 0.0277, 0.0716)  # centre of the template's left eyeball, m
LIP_LINE = -0.0400  # m: where the template's lips meet


@dataclass(frozen=True)
class Paint:
    """albedo [3, S, S] sRGB; relief [3, S, S]: what to take off the unit normal; gloss [1, S, S];
    labels [S, S] long (PARSING_LABELS); hair [S, S]: share of the scalp's cover, where hair may grow."""

    albedo: Tensor
    relief: Tensor
    gloss: Tensor
    labels: Tensor
    hair: Tensor


def hair_cover(atlas: Atlas, look: Look, generator: torch.Generator) -> Tensor:
    """[S, S] in [0, 1]: how densely the scalp is covered; an uneven hairline, thin where it recedes."""
    if look.style == "bald":
        return torch.zeros_like(atlas.scalp_field)
    size, x, y, z = atlas.size, *atlas.rest.unbind(-1)
    ragged = 0.05 * band_noise(size, 64, generator)[0] + 0.025 * band_noise(size, 240, generator)[0]
    level = 0.50 + 0.07 * look.hairline * smoothstep(z, 0.0, 0.05)
    cover = smoothstep(atlas.scalp_field + ragged - level, -0.07, 0.07)
    if look.style == "receding":
        temples = bump(x.abs(), 0.042, 0.016) * smoothstep(z, 0.0, 0.04) * smoothstep(y, 0.07, 0.09)
        crown = smoothstep(y, 0.085, 0.115) * (0.6 + 0.4 * min(1.0, (look.age - 18) / 40))
        cover = cover * (1 - temples) * (1 - crown * (0.92 + 0.08 * ragged.clamp(-1, 1)))
    behind_ear = smoothstep(atlas.regions["ears"], 0.5, 0.0)
    return cover * behind_ear * atlas.covered


def beard_cover(atlas: Atlas, kind: str, generator: torch.Generator) -> Tensor:
    """[S, S] in [0, 1]: where a beard of that kind grows."""
    x, y, z = atlas.rest.unbind(-1)
    ax = x.abs()
    ragged = 0.004 * band_noise(atlas.size, 160, generator)[0]
    moustache = (
        smoothstep(ax + ragged, 0.030, 0.023)
        * smoothstep(y, -0.041, -0.033)
        * smoothstep(y + 0.12 * ax, -0.0205, -0.0245)
        * smoothstep(z, 0.075, 0.085)
    )
    chin = (
        smoothstep(ax + ragged, 0.031, 0.024) * smoothstep(y, -0.047, -0.054) * smoothstep(y, -0.105, -0.088)
    )
    chin = chin * smoothstep(z, 0.03, 0.05)
    line = -0.043 + 0.85 * (ax - 0.028).clamp_min(0)  # the cheek's upper border rises to the sideburn
    jaw = (
        smoothstep(y - line + ragged, 0.004, -0.006)
        * smoothstep(y, -0.112, -0.092)
        * smoothstep(z, 0.0, 0.02)
    )
    side = smoothstep(ax, 0.058, 0.064) * smoothstep(z, 0.012, 0.02) * smoothstep(z, 0.045, 0.03)
    jaw = torch.maximum(jaw, side * smoothstep(y, 0.05, 0.02) * smoothstep(y, -0.05, -0.03))
    parts = {"none": [], "moustache": [moustache], "goatee": [moustache, chin]}
    amount = torch.zeros_like(y)
    for part in parts.get(kind, [moustache, chin, jaw]):
        amount = torch.maximum(amount, part)
    bare = smoothstep(atlas.regions["lips"] + atlas.regions["ears"], 0.25, 0.0)
    return amount * bare * atlas.covered


def brow_cover(atlas: Atlas, look: Look, generator: torch.Generator) -> Tensor:
    """[S, S] in [0, 1]: brow hair, combed outwards, thinning at both ends."""
    x, y, z = atlas.rest.unbind(-1)
    along = (x.abs() - 0.0125) / 0.044  # 0 by the nose, 1 at the temple
    middle = 0.0480 + 0.0032 * torch.sin(along.clamp(0, 1) * math.pi * (0.62 + 0.12 * look.brow_arch))
    middle = middle + 0.0035 * look.brow_arch * bump(along, 0.62, 0.2) - 0.004 * smoothstep(along, 0.7, 1.1)
    half = 0.0047 * look.brow_width * (1 - 0.75 * smoothstep(along, 0.45, 1.05))
    ragged = 0.18 * band_noise(atlas.size, 200, generator)[0]
    inside = smoothstep((y - middle).abs() / half + ragged, 1.15, 0.55)
    inside = inside * smoothstep(along + 0.1 * ragged, -0.04, 0.10) * smoothstep(along, 1.08, 0.9)
    return inside * smoothstep(z, 0.05, 0.062) * atlas.covered


def _wrinkles(atlas: Atlas, age: float, generator: torch.Generator) -> Tensor:
    """Height, m: brow lines, nose-to-mouth folds, crow's feet, eye bags; deeper with age."""
    x, y, z = atlas.rest.unbind(-1)
    ax = x.abs()
    amount = max(0.0, (age - 28) / 45)
    warp = 0.003 * band_noise(atlas.size, 14, generator)[0]
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
    feet = feet.clamp_min(0) * ball(atlas.rest, (0.054, 0.026, 0.070), 0.006)
    bag = bump(y - 0.0155 - 6 * (ax - EYE[0]).square(), 0.0, 0.0013) * bump(ax, EYE[0], 0.010) * (z > 0.05)
    return -1e-3 * amount * (0.30 * lines + 0.8 * fold + 0.18 * feet + 0.45 * bag)


def _relief(atlas: Atlas, height: Tensor) -> Tensor:
    """[3, S, S]: the template-space slope of a height map (m)."""
    slope = torch.zeros(*height.shape, 2, device=height.device)
    slope[:, 1:-1, 0] = (height[:, 2:] - height[:, :-2]) / 2
    slope[1:-1, :, 1] = (height[2:] - height[:-2]) / 2
    vector = (atlas.lift @ slope[..., None])[..., 0]
    return (vector * atlas.covered[..., None]).clamp(-0.5, 0.5).permute(2, 0, 1)


def _blend(base: Tensor, colour: Tensor, amount: Tensor) -> Tensor:
    """[3, S, S] towards a colour [3] (or [3, S, S]) by amount [S, S]."""
    colour = colour if colour.ndim == 3 else colour[:, None, None]
    return base + amount * (colour - base)


def _complexion(atlas: Atlas, look: Look, generator: torch.Generator) -> Tensor:
    """[3, S, S] bare skin: zones of blood and bone, blotches, pores, freckles, moles."""
    size, rest = atlas.size, atlas.rest
    x, y, z = rest.unbind(-1)
    front = smoothstep(z, 0.02, 0.06)
    mottle = band_noise(size, 24, generator)[0] * 0.012 + band_noise(size, 90, generator)[0] * 0.011
    fine = band_noise(size, size // 2, generator)[0] * 0.016
    skin = look.skin[:, None, None] * torch.exp(mottle + fine)
    blood = 0.8 * ball(rest, (0.040, -0.004, 0.078), 0.016) + 0.9 * ball(rest, (0.0, -0.006, 0.112), 0.012)
    blood = blood + 0.5 * ball(rest, (0.0, -0.068, 0.092), 0.013) + 0.6 * atlas.regions["ears"]
    blood = blood + 0.35 * ball(rest, (0.018, -0.014, 0.094), 0.007)
    blotch = 1 + 0.5 * band_noise(size, 40, generator)[0]
    strength = look.redness * (0.30 - 0.16 * look.tone) * (blood * blotch).clamp(0, 1.2)
    skin = skin * torch.exp(strength * torch.tensor([0.10, -0.75, -0.62])[:, None, None])
    pale = 0.05 * bump(y, 0.085, 0.02) * front
    skin = skin * (1 + pale * torch.tensor([0.9, 1.0, 0.5])[:, None, None])
    socket = ball(rest, (EYE[0], 0.0175, 0.086), 0.0065) + 0.8 * ball(rest, (0.017, 0.026, 0.083), 0.006)
    socket = socket + 0.5 * ball(rest, (EYE[0], 0.037, 0.086), 0.006)
    tired = (0.10 + 0.25 * min(1.0, look.age / 80)) * socket.clamp(0, 1)
    skin = skin * torch.exp(-tired * torch.tensor([0.75, 1.0, 0.8])[:, None, None])
    if look.freckles:
        spots = smoothstep(
            band_noise(size, 150, generator)[0] + 0.4 * band_noise(size, 40, generator)[0], 1.0, 1.7
        )
        where = ball(rest, (0.032, 0.004, 0.085), 0.022) + ball(rest, (0.0, 0.01, 0.1), 0.018) + 0.15 * front
        skin = skin * torch.exp(
            -look.freckles * (spots * where.clamp(0, 1)) * torch.tensor([0.22, 0.42, 0.55])[:, None, None]
        )
    for _ in range(look.moles):
        px, py = (
            float(torch.randn((), generator=generator)) * 0.035,
            float(torch.rand((), generator=generator)) * 0.16 - 0.08,
        )
        radius = 0.0008 + 0.0010 * float(torch.rand((), generator=generator))
        dot = torch.exp(-0.5 * ((x - px).square() + (y - py).square()) / radius**2) * front
        skin = skin * torch.exp(-0.8 * dot * torch.tensor([0.8, 1.0, 1.0])[:, None, None])
    return skin


def _eyes(atlas: Atlas, look: Look, base: Tensor, generator: torch.Generator) -> Tensor:
    """Sclera with veins, iris with rays and limbus, pupil."""
    x, y, z = atlas.rest.unbind(-1)
    dx, dy = x.abs() - EYE[0], y - EYE[1]
    r, angle = (dx.square() + dy.square()).sqrt() * 1e3, torch.atan2(dy, dx)  # mm from the gaze
    front = (z > EYE[2]).float()
    rays = (
        sum(torch.sin(angle * k + float(torch.rand((), generator=generator)) * 6.28) for k in (9, 17, 26)) / 3
    )
    white = torch.tensor([0.76, 0.72, 0.69]) - 0.05 * look.tone * torch.tensor([0.6, 1.0, 1.6])
    veins = band_noise(atlas.size, 200, generator)[0].clamp_min(0) * smoothstep(r, 6.0, 11.0)
    ball_colour = white[:, None, None] - veins * torch.tensor([0.02, 0.08, 0.07])[:, None, None]
    ball_colour = ball_colour - smoothstep(r, 8, 13) * torch.tensor([0.10, 0.26, 0.24])[:, None, None]
    iris = look.iris[:, None, None] * (1.0 + 0.28 * rays * smoothstep(r, 1.8, 3.4) + 0.30 * bump(r, 2.9, 0.8))
    ball_colour = _blend(ball_colour, iris, smoothstep(r, 6.0, 5.5) * front)
    ball_colour = ball_colour * (1 - 0.70 * bump(r, 5.7, 0.42) * front)
    ball_colour = _blend(ball_colour, torch.tensor([0.012, 0.010, 0.010]), smoothstep(r, 2.5, 2.0) * front)
    ball_colour = ball_colour * (1 - 0.35 * smoothstep(dy, 0.0025, 0.0065))  # the upper lid's shade
    return _blend(base, ball_colour, (atlas.regions["eyes"] > 0.5).float())


def paint(atlas: Atlas, look: Look, generator: torch.Generator) -> Paint:
    """A person's whole texture."""
    rest, regions = atlas.rest, atlas.regions
    x, y, z = rest.unbind(-1)
    hair, beard = hair_cover(atlas, look, generator), beard_cover(atlas, look.beard, generator)
    brows = brow_cover(atlas, look, generator)
    pores = band_noise(atlas.size, atlas.size // 2, generator)[0]
    height = _wrinkles(atlas, look.age, generator) + 3.5e-5 * pores * smoothstep(z, 0.0, 0.05)
    albedo = _complexion(atlas, look, generator)
    wrinkle_shade = (height / 4e-4).clamp(-1, 0)
    albedo = albedo * torch.exp(0.22 * wrinkle_shade * torch.tensor([0.7, 1.0, 1.0])[:, None, None])

    grain = band_noise(atlas.size, 280, generator)[0]
    lips = smoothstep(regions["lips"], 0.2, 0.75)
    ridges = band_noise(atlas.size, 220, generator)[0]
    albedo = _blend(albedo, look.lips[:, None, None] * (1 + 0.07 * ridges), lips * look.lip_strength)
    lid = (ball(rest, (EYE[0], 0.0375, 0.086), 0.0075) + ball(rest, (0.040, 0.034, 0.082), 0.006)).clamp(0, 1)
    albedo = _blend(albedo, look.trim * 0.6 + torch.tensor([0.12, 0.06, 0.06]), look.shadow * 0.7 * lid)
    rim = smoothstep(regions["lashes"] + regions["eyes"], 0.02, 0.3) * (
        1 - smoothstep(regions["eyes"], 0.5, 0.9)
    )
    albedo = _blend(albedo, albedo * 0.35, rim * max(look.liner, 0.35))
    roots = look.hair * 0.75
    shaven = {"none": 0.0, "stubble": 0.55, "moustache": 0.2, "goatee": 0.2}.get(look.beard, 0.75)
    stubble = (
        beard_cover(atlas, "stubble", generator) * 0.30 if look.beard in ("moustache", "goatee") else beard
    )
    dots = smoothstep(grain, -0.6, 1.1)
    albedo = _blend(albedo, roots, (stubble * shaven * (0.35 + 0.65 * dots)).clamp(0, 0.85))
    albedo = _blend(albedo, roots, beard * (0.6 if look.beard not in ("none", "stubble") else 0.0))
    combed = 0.55 + 0.45 * smoothstep(band_noise(atlas.size, 320, generator)[0], -1.2, 0.6)
    brow_colour = torch.minimum(look.hair * 0.8, look.skin * 0.62) * 0.9
    albedo = _blend(albedo, brow_colour, (brows * combed * look.brow_density).clamp(0, 1))
    under = {"buzz": 0.72, "receding": 0.8, "crop": 0.9}.get(look.style, 0.95)
    albedo = _blend(albedo, look.hair[:, None, None] * (0.62 + 0.10 * grain), hair * under)

    albedo = _eyes(atlas, look, albedo, generator)
    for name, colour in (
        ("teeth", [0.80, 0.76, 0.68]),
        ("tongue", [0.62, 0.30, 0.30]),
        ("mouth_inside", [0.30, 0.09, 0.09]),
        ("lashes", [0.05, 0.04, 0.04]),
    ):
        albedo = _blend(albedo, torch.tensor(colour), (regions[name] > 0.5).float())
    gloss = (
        look.gloss
        * (
            0.35
            + 0.5 * ball(rest, (0.0, -0.005, 0.112), 0.012)
            + 0.3 * bump(y, 0.085, 0.015) * bump(x, 0, 0.03)
            + 0.45 * lips
        )
        * (1 - 0.7 * torch.maximum(hair, beard))
    )
    gloss = torch.where(regions["eyes"] > 0.5, 3.0, gloss)
    covered = atlas.padded(torch.cat([albedo, _relief(atlas, height), gloss[None]]))
    labels = atlas.padded(_labels(atlas, hair, brows)[None])[0]
    return Paint(covered[:3].clamp(0, 1), covered[3:6], covered[6:7], labels, atlas.padded(hair[None])[0])


def _labels(atlas: Atlas, hair: Tensor, brows: Tensor) -> Tensor:
    """[S, S] long. Beards count as skin, as in the public face-parsing sets."""
    regions, y = atlas.regions, atlas.rest[..., 1]
    labels = torch.full(hair.shape, LABEL["skin"])
    rows = [
        (regions["neck"] > 0.5, "neck"),
        (regions["boundary"] > 0.5, "neck"),
        (regions["ears"] > 0.5, "ears"),
        (regions["nose"] > 0.5, "nose"),
        (hair > 0.5, "hair"),
        (brows > 0.45, "brows"),
        ((regions["lips"] > 0.5) & (y >= LIP_LINE), "upper_lip"),
        ((regions["lips"] > 0.5) & (y < LIP_LINE), "lower_lip"),
        ((regions["teeth"] > 0.5) | (regions["tongue"] > 0.5), "mouth_inside"),
        (regions["mouth_inside"] > 0.5, "mouth_inside"),
        (regions["eyes"] > 0.5, "eyes"),
        (regions["lashes"] > 0.5, "eyes"),
    ]
    for mask, name in rows:
        labels = torch.where(mask, LABEL[name], labels)
    return labels
