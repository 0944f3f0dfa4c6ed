"""Lights: a smooth surrounding, a few directional lights, and how skin, hair and cloth answer them."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from omega_cli.data.studio.look import Draw

DIRECTIONS = 24  # of the sphere along which a person's own shadows are stored
SHARPNESS = 10.0  # of the lobe that one light gathers shadows from: a soft box, some 20 degrees wide
SKIN_WRAP = (0.38, 0.16, 0.10)  # red light travels furthest under the skin
HAIR_WRAP = 0.45  # and hair lets much of it through


@dataclass(frozen=True)
class Light:
    """directions [L, 3] unit, towards the light; colours [L, 3] linear; around [4, 3]: ambient radiance
    as a constant and its slope along x, y, z (linear RGB); exposure: a factor."""

    directions: Tensor
    colours: Tensor
    around: Tensor
    exposure: float = 1.0

    def on_a_face(self) -> float:
        """Irradiance over pi of a card that faces +z: what a camera's meter would see."""
        toward = self.directions[:, 2].clamp_min(0)
        card = (toward[:, None] * self.colours).sum(0) + self.around[0] + 0.6 * self.around[3]
        return float(card.mean())

    def to(self, device: torch.device | str) -> Light:
        return Light(
            self.directions.to(device), self.colours.to(device), self.around.to(device), self.exposure
        )

    def rotated(self, rotation: Tensor) -> Light:
        """The same light seen from a frame turned by rotation [3, 3] (or, stacked, [P, 3, 3]): l' = R l."""
        R = rotation.to(self.directions)
        slope = torch.cat([self.around[..., :1, :], R @ self.around[..., 1:, :]], -2)
        return Light(self.directions @ R.mT, self.colours, slope, self.exposure)


def stack_lights(lights: Sequence[Light], device: torch.device | str) -> Light:
    """Fields [P, L, 3] and [P, 4, 3] of P lights, exposure multiplied in (it is 1); lamps that burn for
    nobody are left out."""
    count = max(len(one.directions) for one in lights)

    def filled(values: Tensor) -> Tensor:
        return torch.nn.functional.pad(values, (0, 0, 0, count - len(values)))

    directions = torch.stack([filled(one.directions) for one in lights])
    colours = torch.stack([filled(one.colours) * one.exposure for one in lights])
    around = torch.stack([one.around * one.exposure for one in lights])
    burning = (colours > 0).any(-1).any(0)
    return Light(directions[:, burning].to(device), colours[:, burning].to(device), around.to(device))


def sphere(count: int = DIRECTIONS) -> Tensor:
    """[count, 3] directions spread evenly (Fibonacci's spiral)."""
    i = torch.arange(count) + 0.5
    y = 1 - 2 * i / count
    turn = math.pi * (1 + 5**0.5) * i
    r = (1 - y * y).sqrt()
    return torch.stack([r * turn.cos(), y, r * turn.sin()], 1)


@functools.cache
def _sphere_at(device: torch.device) -> Tensor:
    return sphere().to(device)


def _direction(azimuth_deg: float, elevation_deg: float) -> Tensor:
    a, e = math.radians(azimuth_deg), math.radians(elevation_deg)
    return torch.tensor([math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e)])


def _tint(draw: Draw, spread: float) -> Tensor:
    """White to warm or cold, [3], mean 1."""
    warm = draw.normal(0, spread)
    tint = torch.tensor([1 + warm, 1.0, 1 - 1.2 * warm]).clamp_min(0.2)
    return tint / tint.mean()


def studio_light() -> Light:
    """One even, neutral light: a large key from the upper left, fill, a little from behind."""
    directions = torch.stack([_direction(-30, 35), _direction(55, 10), _direction(170, 40)])
    colours = torch.tensor([0.75, 0.35, 0.5])[:, None].expand(3, 3).clone()
    around = torch.tensor([[0.36] * 3, [0.0] * 3, [0.12] * 3, [0.05] * 3])
    return Light(directions, colours, around)


def sample_light(generator: torch.Generator) -> Light:
    """Soft daylight, a hard side light, rim light, a coloured room: what photographs show."""
    draw = Draw(generator)
    key = _direction(draw.normal(0, 45), draw.uniform(5, 60))
    fill = _direction(draw.uniform(-180, 180), draw.uniform(-15, 40))
    rim = _direction(180 + draw.normal(0, 50), draw.uniform(10, 55))
    hard = draw.uniform()
    tints = [_tint(draw, 0.08), _tint(draw, 0.12), _tint(draw, 0.12)]
    powers = [0.7 + 1.6 * hard, draw.uniform(0, 0.7), draw.uniform(0, 1.4) if draw.chance(0.5) else 0.0]
    colours = torch.stack([p * t for p, t in zip(powers, tints, strict=True)])
    base = (0.75 - 0.45 * hard) * _tint(draw, 0.08)
    slope = torch.stack(
        [base * draw.normal(0, 0.3), base * draw.uniform(0.0, 0.6), base * draw.normal(0.1, 0.25)]
    )
    light = Light(torch.stack([key, fill, rim]), colours, torch.cat([base[None], slope]))
    return replace(light, exposure=draw.uniform(0.9, 1.2) / max(0.25, light.on_a_face()))


def shadows(light: Light, visible: Tensor) -> Tensor:
    """[..., V, L] share of each light that reaches the vertices; visible [..., V, D] along `sphere()`.

    The light is already in the frame of `visible`; stacked lights go with stacked people.
    """
    lobes = torch.exp(SHARPNESS * (_sphere_at(visible.device) @ light.directions.to(visible).mT - 1))
    return visible @ (lobes / lobes.sum(-2, keepdim=True))


def ambient(light: Light, normals: Tensor, visible: Tensor) -> Tensor:
    """[..., V, 3] irradiance over pi of the surrounding, with the person's own shade."""
    d = _sphere_at(visible.device)
    around = light.around.to(visible)
    radiance = (around[..., :1, :] + d @ around[..., 1:, :]).clamp_min(0)  # [..., D, 3]
    facing = (normals @ d.T).clamp_min_(0)
    bounce = 0.10 * around[..., :1, :]  # light that skin throws at skin
    return facing.mul_(visible) @ radiance * (4.0 / len(d)) + bounce


def highlight(mirror: Tensor, facing: Tensor, power: Tensor | float) -> Tensor:
    """[n] Blinn-Phong lobe, normalised, stronger at grazing angles (Schlick); mirror: normal against half
    vector, facing: normal against view, both cosines [n]."""
    fresnel = 0.04 + 0.96 * (1 - facing.clamp(0, 1)) ** 5
    return mirror.clamp_min(0) ** power * ((power + 8) / 25.13) * fresnel.clamp_max(0.35)


def strand_highlight(along: Tensor, out: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """(white, coloured) lobes [n] of a strand (Kajiya and Kay 1989), moved along it by `shift` [n].

    along, out: the half vector's parts on the strand and on its normal.
    """

    def lobe(offset: Tensor, power: float) -> Tensor:
        on_strand = (along + offset * out).square() / (1 + offset.square())
        return (1 - on_strand).clamp_min(0) ** (power / 2)

    return lobe(shift - 0.08, 90.0), lobe(shift + 0.10, 22.0)


def develop(linear: Tensor) -> Tensor:
    """Linear colour to sRGB in [0, 1] with a soft shoulder above 0.7."""
    over = (linear - 0.7).clamp_min(0)
    x = linear.clamp(0, 0.7) + 0.3 * (1 - torch.exp(-over / 0.3))
    return torch.where(x <= 0.0031308, 12.92 * x, 1.055 * x.clamp_min(1e-6) ** (1 / 2.4) - 0.055)


def linear_of(srgb: Tensor) -> Tensor:
    """sRGB in [0, 1] to linear."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055).clamp_min(0) ** 2.4)
