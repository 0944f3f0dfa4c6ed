"""Settings of `omega render`."""

from dataclasses import dataclass
from typing import Literal

from omega_cli.options import opt


def parse_angles(text: str, what: str) -> list[float]:
    """'0,45,-90' -> [0.0, 45.0, -90.0]; '' -> []. Raises ValueError naming the flag."""
    try:
        return [float(part) for part in text.replace(" ", "").split(",") if part]
    except ValueError:
        raise ValueError(f"{what} must be numbers divided by commas, got {text!r}") from None


@dataclass(frozen=True)
class RenderConfig:
    """What to render: a turntable, a list of directions, or a file of cameras."""

    name: str = opt("turntable", "Folder under renders/.")
    frames: int = opt(72, "Frames of the turntable.")
    size: int = opt(512, "Side of the pictures, pixels.")
    fps: float = opt(24.0, "Frames a second of the film.")
    azimuth: str = opt("", "Directions in degrees, such as 0,45,90, in place of the turntable.")
    elevation: str = opt("", "Elevations in degrees: one for all, or as many as azimuths.")
    cameras: str = opt("", "A cameras.json with the cameras to render, in place of the turntable.")
    expression: Literal["photo", "neutral"] = opt("photo", "The photo's own expression, or none.")
    background: Literal["grey", "white", "black", "transparent"] = opt(
        "grey", "Colour behind the head; transparent keeps RGBA frames."
    )
    keep_frames: bool = opt(False, "Keep every frame as a PNG.")
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
        if not self.name or self.name.startswith(".") or "/" in self.name or "\\" in self.name:
            raise ValueError(f"name must be a plain folder name, got {self.name!r}")
        if not 1 <= self.frames <= 10_000:
            raise ValueError(f"frames must lie in 1 to 10000, got {self.frames}")
        if not 64 <= self.size <= 4096 or self.size % 2:
            raise ValueError(f"size must be an even number from 64 to 4096, got {self.size}")
        if not 1 <= self.fps <= 240:
            raise ValueError(f"fps must lie in 1 to 240, got {self.fps}")
        azimuths = parse_angles(self.azimuth, "azimuth")
        elevations = parse_angles(self.elevation, "elevation")
        if azimuths and len(elevations) not in (0, 1, len(azimuths)):
            raise ValueError(f"{len(azimuths)} azimuths but {len(elevations)} elevations")
        if self.cameras and azimuths:
            raise ValueError("give azimuth or cameras, not both")
