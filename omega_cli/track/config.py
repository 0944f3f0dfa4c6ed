"""Settings of `omega track`: one frozen dataclass is flag, default and record."""

from dataclasses import dataclass
from typing import Literal

from omega_cli.options import opt


@dataclass(frozen=True)
class TrackConfig:
    """Which face is taken, who finds its landmarks, how calm a film's motion is made."""

    landmarks: Literal["mediapipe", "face-alignment"] = opt(
        "mediapipe", "Landmark backend; face-alignment is a separate install with its own weights."
    )
    parser: Literal["own", "bisenet"] = opt(
        "own", "Face parser; bisenet is trained on a data set for research and personal use only."
    )
    lens: Literal["auto", "usual", "found"] = opt(
        "auto",
        "Where a photo was taken from: auto = as its EXIF tells, else usual; usual = 1 m for a head that "
        "fills it; found = as EXIF tells, else read off the landmarks' perspective, for selfies and long "
        "lenses.",
    )
    face: int = opt(0, "Which face where there are several; 0 is the largest.")
    smooth: float = opt(1.0, "Strength of a film's smoothing over time; 0 leaves it as measured.")
    max_frames: int = opt(0, "Stop after this many frames of a film; 0 takes them all.")

    def __post_init__(self) -> None:
        if self.face < 0:
            raise ValueError(f"face must not be negative, got {self.face}")
        if not 0 <= self.smooth <= 10:
            raise ValueError(f"smooth must lie in [0, 10], got {self.smooth}")
        if self.max_frames < 0:
            raise ValueError(f"max-frames must not be negative, got {self.max_frames}")
