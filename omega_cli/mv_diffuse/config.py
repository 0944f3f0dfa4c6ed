"""Settings of mv-diffuse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..options import opt


@dataclass(frozen=True)
class MvDiffuseConfig:
    source: Literal["omega", "lift"] = opt(
        "omega",
        "Where the views come from: lift = the photo on the fitted head, omega = with a network on top.",
    )
    net: str = opt("", "A view network of your own (omega train); default: the one that comes with omega.")
    size: int = opt(512, "Side of each view, pixels.")
    half_extent: float = opt(0.21, "Half the side of the orthographic window, metres.")
    texture_size: int = opt(768, "Side of the intermediate UV texture, texels.")
    inflate: bool = opt(True, "Inflate the scalp to the photo's hair silhouette.")
    mirror: bool = opt(True, "Fill what the photo did not see from the other side of the face.")

    def __post_init__(self) -> None:
        if not 32 <= self.size <= 2048:
            raise ValueError(f"size must be between 32 and 2048 px, got {self.size}")
        if not 0.1 <= self.half_extent <= 1.0:
            raise ValueError(f"half_extent must be between 0.1 and 1 m, got {self.half_extent}")
        if not 64 <= self.texture_size <= 4096:
            raise ValueError(f"texture_size must be between 64 and 4096, got {self.texture_size}")
