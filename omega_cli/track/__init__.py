"""From a photo to the aligned input, and from a film to its motion (paper 3.1: crop, landmarks, FLAME).

Photo: reads one picture; writes source/ (image.png, crop.json, landmarks.npz, flame.npz, cameras.json,
parsing.png, overlay.png). Film: writes one motion.npz (flame.npz keys over T frames).
Networks: face_landmarker, u2netp, face_parser. Geometry: the head model with its landmark embeddings.

`track_image` and `track_video` are found here lazily, so that the command line does not pay for torch.
"""

from __future__ import annotations

from typing import Any

__all__ = ["track_image", "track_video"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from omega_cli.track import stage

        return getattr(stage, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
