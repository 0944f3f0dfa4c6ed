"""Settings of `omega reenact`: one frozen dataclass is flag, default and record."""

from dataclasses import dataclass
from typing import Literal

from omega_cli.options import opt


@dataclass(frozen=True)
class ReenactConfig:
    """How a driver's motion reaches the avatar, and how the film is made."""

    size: int = opt(512, "Side of the film, pixels.")
    camera: Literal["front", "source", "orbit"] = opt(
        "front", "front: a portrait from the front; source: the photo's own view; orbit: a slow swing."
    )
    background: Literal["grey", "white", "black"] = opt("grey", "Colour behind the avatar.")
    side_by_side: bool = opt(False, "Show the driver to the left of the avatar.")
    relative: bool = opt(True, "Motion relative to the driver's neutral face, or as tracked.")
    keep_expression: float = opt(
        0.0, "Share of the photo's own expression kept at the driver's neutral, 0 to 1."
    )
    expression_gain: float = opt(1.0, "Factor on the driver's expression.")
    head_gain: float = opt(1.0, "Factor on the driver's head rotation; 0 holds the head still.")
    max_turn: float = opt(40.0, "Head rotation saturates softly at this angle, degrees.")
    max_shift: float = opt(0.03, "Head translation saturates softly at this length, metres.")
    max_frames: int = opt(0, "Stop after this many frames; 0 takes the whole film.")
    audio: bool = opt(True, "Keep the driver's sound.")
    keep_frames: bool = opt(False, "Also keep every frame as a PNG.")
    refine: bool | None = opt(
        None, "Refine what is splatted with a network; default: where omega's weights are there and fit."
    )
    refiner: str = opt(
        "", "An avatar refiner of your own (omega train); default: the one that comes with omega."
    )
    backend: Literal["auto", "gsplat", "native", "torch"] = opt("auto", "Gaussian renderer.")

    def __post_init__(self) -> None:
        if self.refiner and self.refine is False:
            raise ValueError("refiner is a network, no-refine uses none")
        if not 64 <= self.size <= 4096 or self.size % 2:
            raise ValueError(f"size must be an even number from 64 to 4096, got {self.size}")
        if not 0 <= self.keep_expression <= 1:
            raise ValueError(f"keep-expression must lie in [0, 1], got {self.keep_expression}")
        if not 0 < self.max_turn <= 90:
            raise ValueError(f"max-turn must lie in (0, 90] degrees, got {self.max_turn}")
        if self.max_frames < 0 or self.max_shift < 0:
            raise ValueError("max-frames and max-shift must not be negative")
