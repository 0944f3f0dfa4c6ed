"""Where beards grow, and the skin under them."""

from __future__ import annotations

import torch
from torch import Tensor

from omega_cli.data.studio.atlas import Atlas, zone_in
from omega_cli.data.studio.look import Look
from omega_cli.data.studio.noise import band_noise, skip_noise, smoothstep

BEARD = ((-1.0, -0.112, 0.0), (1.0, 0.05, 1.0))  # m: a box |x|, y, z of the template that holds all of it


def beard_cover(atlas: Atlas, kind: str, generator: torch.Generator) -> Tensor:
    """[S, S] in [0, 1]: where a beard of that kind grows."""
    out = torch.zeros_like(atlas.scalp_field)
    if kind == "none":
        skip_noise(atlas.size, 160, generator)
        return out
    zone = zone_in(atlas, *BEARD)
    x, y, z = zone.x, zone.y, zone.z
    ax = x.abs()
    ragged = 0.004 * zone.pick(band_noise(atlas.size, 160, generator))
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
    parts = {
        "moustache": [moustache],
        "heavy moustache": [moustache],
        "goatee": [moustache, chin],
        "chin curtain": [chin * smoothstep(y, -0.056, -0.064), jaw * smoothstep(y - line, -0.004, -0.012)],
        "sideburns": [jaw * smoothstep(ax, 0.042, 0.050)],
    }
    amount = torch.zeros_like(y)
    for part in parts.get(kind, [moustache, chin, jaw]):
        amount = torch.maximum(amount, part)
    bare = smoothstep(zone.pick(atlas.regions["lips"] + atlas.regions["ears"]), 0.25, 0.0)
    return zone.put(out, amount * bare * zone.pick(atlas.covered))


def paint_beard(
    atlas: Atlas, look: Look, albedo: Tensor, beard: Tensor, grain: Tensor, generator: torch.Generator
) -> None:
    """Shaven and grown hair of the face, in place."""
    if look.beard == "none":
        return
    zone, roots = zone_in(atlas, *BEARD), look.hair[:, None] * 0.75
    partly = look.beard in ("moustache", "heavy moustache", "goatee", "chin curtain", "sideburns")
    shaven = 0.2 if partly else 0.55 if look.beard == "stubble" else 0.75
    stubble = beard_cover(atlas, "stubble", generator) * 0.30 if partly else beard
    dots = smoothstep(zone.pick(grain), -0.6, 1.1)
    zone.blend(albedo, roots, (zone.pick(stubble) * shaven * (0.35 + 0.65 * dots)).clamp(0, 0.85))
    if look.beard != "stubble":
        zone.blend(albedo, roots, 0.6 * zone.pick(beard))
