"""Films and contact sheets: the pictures that a person looks at. Re-exported by `codecs`."""

from __future__ import annotations

import contextlib
import fractions
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from omega_cli.avatar import folders
from omega_cli.errors import OmegaError


def write_video(
    path: Path,
    frames: Iterable[np.ndarray | Tensor],
    fps: float,
    audio_from: Path | None = None,
    metadata: dict[str, str] | None = None,
    crf: int = 18,
) -> int:
    """Write uint8 [H, W, 3] frames as H.264 yuv420p MP4; returns how many there were.

    Odd sizes are padded by one edge pixel (yuv420p needs even ones). `audio_from`: a film whose first
    sound track is carried over, as AAC, cut to the film's length. `metadata` becomes MP4 tags (the
    provenance of a synthetic film). The file appears whole or not at all. Raises OmegaError without
    frames.
    """
    import av

    rate = fractions.Fraction(fps).limit_denominator(1001)
    count = 0
    options = {"movflags": "use_metadata_tags+faststart"}
    with (
        folders.writing_file(path) as scratch,
        av.open(str(scratch), "w", format="mp4", options=options) as out,
    ):
        out.metadata.update(metadata or {})
        video: Any = None
        sound = _SoundTrack(audio_from, out) if audio_from is not None else None
        for given in frames:
            pixels = given.cpu().numpy() if isinstance(given, Tensor) else given
            pixels = _even(np.asarray(pixels))
            if video is None:
                video = out.add_stream("libx264", rate=rate)
                video.width, video.height, video.pix_fmt = pixels.shape[1], pixels.shape[0], "yuv420p"
                video.options = {"crf": str(crf), "preset": "veryfast"}
                video.time_base = 1 / rate
                video.thread_count = 2
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = count, 1 / rate
            out.mux(video.encode(frame))
            count += 1
        if video is None:
            raise OmegaError(f"{path.name}: there is not one frame to write.")
        out.mux(video.encode(None))
        if sound is not None:
            sound.copy(float(count / rate))
    return count


class _SoundTrack:
    """Carries the first sound track of one film into another; a film without sound adds nothing."""

    def __init__(self, source: Path, out: Any) -> None:
        import av

        self.out, self.source, self.target = out, None, None
        try:
            opened = av.open(str(source))
        except (OSError, av.FFmpegError):
            return
        if not opened.streams.audio:
            opened.close()
            return
        self.source = opened
        rate = opened.streams.audio[0].rate or 44100
        self.target = out.add_stream("aac", rate=rate if rate in (32000, 44100, 48000) else 44100)

    def copy(self, seconds: float) -> None:
        """Encode the first `seconds` of sound; what cannot be decoded is left out."""
        import av

        if self.source is None or self.target is None:
            return
        resampler = av.AudioResampler(format="fltp", layout="stereo", rate=self.target.rate)
        with self.source, contextlib.suppress(av.FFmpegError):
            for decoded in self.source.decode(audio=0):
                if decoded.time is not None and decoded.time >= seconds:
                    break
                for frame in resampler.resample(decoded):
                    self.out.mux(self.target.encode(frame))
        for frame in resampler.resample(None):
            self.out.mux(self.target.encode(frame))
        self.out.mux(self.target.encode(None))


def _even(pixels: np.ndarray) -> np.ndarray:
    """Pad to even height and width."""
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"a frame must be uint8 [H, W, 3], got {pixels.dtype} {pixels.shape}")
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(pixels)


def contact_sheet(
    images: Sequence[Tensor],  # each [3|4, H, W] in [0, 1]
    columns: int,
    labels: Sequence[str] | None = None,
    background: float = 1.0,
) -> Tensor:  # [3, H', W']
    """Tile pictures of one size row by row, with a label above each (None: none)."""
    from PIL import Image, ImageDraw, ImageFont

    if not images or columns < 1:
        raise ValueError("a contact sheet needs pictures and at least one column")
    flat = [_over(image.detach().cpu().float(), background) for image in images]
    height, width = flat[0].shape[1:]
    wrong = [tuple(image.shape) for image in flat if tuple(image.shape) != (3, height, width)]
    if wrong:
        raise ValueError(f"pictures of one size are needed, got {tuple(flat[0].shape)} and {wrong[0]}")
    text = max(12, height // 20) if labels is not None else 0
    rows, cell = -(-len(flat) // columns), height + (text * 3 // 2 if text else 0)
    sheet = torch.full((3, rows * cell, min(columns, len(flat)) * width), background)
    for i, image in enumerate(flat):
        y, x = i // columns * cell + cell - height, i % columns * width
        sheet[:, y : y + height, x : x + width] = image
    if labels is None:
        return sheet
    pixels = (sheet.clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).numpy()
    canvas = Image.fromarray(pixels)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(text)
    ink = (0, 0, 0) if background > 0.5 else (255, 255, 255)
    for i, label in enumerate(labels[: len(flat)]):
        draw.text((i % columns * width + text // 3, i // columns * cell + text // 8), label, ink, font)
    return torch.from_numpy(np.array(canvas)).permute(2, 0, 1).float() / 255


def _over(image: Tensor, background: float) -> Tensor:
    """[1|3|4, H, W] composited to [3, H, W]."""
    if image.shape[0] == 4:
        return image[:3] * image[3:] + background * (1 - image[3:])
    return image.expand(3, -1, -1) if image.shape[0] == 1 else image
