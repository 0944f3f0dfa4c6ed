"""Settings of decode: each field is a flag, a default and a record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from omega_cli.options import opt


@dataclass(frozen=True)
class DecodeConfig:
    source: Literal["auto", "omega", "analytic"] = opt(
        "auto",
        "Where the Gaussians come from: analytic = the map on the head's surface, omega = with a network on "
        "top, auto = omega where its weights are there and fit.",
    )
    net: str = opt("", "An avatar decoder of your own (omega train); default: the one that comes with omega.")
    fit_steps: int = opt(
        60,
        "Steps by which the Gaussians are fitted to the photo and the six views; 0 = feed-forward, as in the "
        "paper.",
    )
    texel_sigma: float = opt(0.6, "Standard deviation of a UV Gaussian, in texel spacings.")
    opacity: float = opt(0.995, "Opacity of a UV Gaussian on the closed surface.")
    vertex_opacity: float = opt(
        0.4, "Opacity of a vertex Gaussian; modest, so that it does not blur texture."
    )

    def __post_init__(self) -> None:
        if self.net and self.source == "analytic":
            raise ValueError("net is a network, source analytic uses none")
        if self.fit_steps < 0:
            raise ValueError("fit_steps must be 0 or more")
        if not 0.2 <= self.texel_sigma <= 2.0:
            raise ValueError("texel_sigma must lie in [0.2, 2]")
        for name in ("opacity", "vertex_opacity"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in (0, 1]")
