"""Identity similarity: the cosine of two faces' features in a face recognition network.

The literature's CSIM means ArcFace, each paper its own file of it. What a package carries is SFace (Zhong,
Deng, Hu, Zhao, Li and Wen 2021; LFW .994), so numbers are named after the network: CSIM-SFace, and with the
user's own ArcFace file CSIM-ArcFace. They are not comparable with each other.

A face is found by YuNet and aligned by a similarity transform of five points (eyes, nose, mouth corners) to
the 112 px template that both networks were trained on. YuNet's points tremble by some hundredths of the eyes'
distance: a photo against the same moved and scaled a little has CSIM-SFace .98 (.95 at worst), which is the
noise of a single value. Where no face is found the value is NaN: count those beside the mean. There is no
mask: the aligned crop is the region.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.errors import OmegaError
from omega_cli.metrics.alignment import SIDE, similarity
from omega_cli.metrics.pairs import check_images

Model = Literal["sface", "arcface"]
Embed = Callable[[np.ndarray], np.ndarray]  # aligned face [112, 112, 3] RGB, 0 to 255 -> feature [D]

NAMES: dict[Model, str] = {"sface": "CSIM-SFace", "arcface": "CSIM-ArcFace"}
SFACE_SAME = 0.363
"""Cosine above which two faces are one person to SFace: the threshold that is best on LFW (OpenCV Zoo)."""

_SEARCH_SIDES = (256, 320, 384)  # px; the median over three steadies YuNet's quantised points  # ours
_MIN_SCORE = 0.6  # YuNet's; renderings of faces score .9 and more  # ours


class FaceFinder:
    """Five points of the largest face (YuNet, Wu, Peng and Yu 2023)."""

    def __init__(self, onnx: Path) -> None:
        log = cv2.utils.logging
        loud = log.getLogLevel()
        log.setLogLevel(log.LOG_LEVEL_ERROR)  # it warns that the detector asks for a target OpenCV 5 has not
        try:
            self._detector: Any = cv2.FaceDetectorYN.create(str(onnx), "", (320, 320), _MIN_SCORE)
        finally:
            log.setLogLevel(loud)

    def points(self, rgb: np.ndarray) -> np.ndarray | None:
        """[5, 2] px (x right, y down, pixel centres at whole numbers) of rgb [H, W, 3] uint8, or None."""
        found = [p for side in _SEARCH_SIDES if (p := self._points(rgb, side)) is not None]
        return np.median(found, axis=0) if found else None

    def _points(self, rgb: np.ndarray, side: int) -> np.ndarray | None:
        H, W = rgb.shape[:2]
        width, height = (max(32, round(size * side / max(H, W))) for size in (W, H))
        how = cv2.INTER_AREA if width < W else cv2.INTER_LINEAR
        small = cv2.resize(rgb, (width, height), interpolation=how)
        self._detector.setInputSize((width, height))
        _, faces = self._detector.detect(np.ascontiguousarray(small[:, :, ::-1]))
        if faces is None or not len(faces):
            return None
        largest = faces[np.argmax(faces[:, 2] * faces[:, 3])]
        return (largest[4:14].reshape(5, 2) + 0.5) * (W / width, H / height) - 0.5


def align(rgb: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The face as [112, 112, 3] uint8: the similarity that takes points [5, 2] px nearest to TEMPLATE."""
    matrix = similarity(torch.from_numpy(points.astype(np.float64))[None])[0].numpy()
    return cv2.warpAffine(rgb, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)


class Csim:
    """Cosine [B] of the faces in pairs of pictures; made by `load_csim`. Runs on the CPU, no gradients."""

    def __init__(self, name: str, finder: FaceFinder, embed: Embed) -> None:
        self.name, self._finder, self._embed = name, finder, embed
        self._size = embed(np.zeros((SIDE, SIDE, 3), np.uint8)).size

    def embed(
        self,
        images: Tensor,  # [B, 3, H, W] in [0, 1]
    ) -> Tensor:  # [B, D]
        """Unit features, one row a picture; a row of NaN where no face is found."""
        check_images("images", images)
        pixels = (images.detach().float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        features = np.full((len(pixels), self._size), np.nan, np.float32)
        for row, rgb in zip(features, pixels):
            rgb = np.ascontiguousarray(rgb)
            points = self._finder.points(rgb)
            if points is not None:
                row[:] = self._embed(align(rgb, points)).reshape(-1)
        return F.normalize(torch.from_numpy(features), dim=1).to(images.device)

    def __call__(
        self,
        a: Tensor,  # [B, 3, H, W] in [0, 1]
        b: Tensor,  # [B, 3, h, w], another size if need be
    ) -> Tensor:  # [B]
        """Cosine in [-1, 1]; NaN where either picture has no face."""
        if len(a) != len(b):
            raise ValueError(f"a and b must be as many, got {len(a)} and {len(b)}")
        return cosine(self.embed(a), self.embed(b))


def cosine(
    x: Tensor,  # [B, D] unit features of `Csim.embed`
    y: Tensor,  # [B, D]
) -> Tensor:  # [B]
    """Their cosine: for a picture that is compared many times, embedded once. NaN stays NaN."""
    if x.shape != y.shape or x.ndim != 2:
        raise ValueError(f"features must both be [B, D], got {list(x.shape)} and {list(y.shape)}")
    return (x * y).sum(1).clamp(-1, 1)


def load_csim(model: Model = "sface", report: Any = None) -> Csim:
    """The identity metric. `sface` is fetched once (11 MB); `arcface` is the user's file arcface.onnx.

    Raises OmegaError when a file is neither here nor to be had, or is no face network.
    """
    from omega_cli import weights

    if model not in NAMES:
        raise ValueError(f"model must be one of {', '.join(NAMES)}, got {model!r}")
    path = weights.resolve(model, report)
    embed = _sface(path) if model == "sface" else _arcface(path)
    return Csim(NAMES[model], FaceFinder(weights.resolve("yunet", report)), embed)


def _sface(path: Path) -> Embed:
    network = cv2.dnn.readNetFromONNX(np.frombuffer(path.read_bytes(), np.uint8))

    def embed(face: np.ndarray) -> np.ndarray:
        # the network normalises; its weights are listed as inputs too, so the picture's is named
        network.setInput(cv2.dnn.blobFromImage(face), "data")
        return np.asarray(network.forward()).copy()

    return embed


def _arcface(path: Path) -> Embed:
    """An InsightFace recognition file: RGB, (x - 127.5) / 127.5 unless the graph itself begins with that."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; old files list their weights as inputs, a warning each
    hint = "Put an ArcFace ONNX file of InsightFace there: one picture of 112 px in, one feature out."
    data = path.read_bytes()
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own, one for each way to be damaged
        raise OmegaError(f"{path} is no ONNX file that onnxruntime reads: {error}.", hint) from None
    picture = session.get_inputs()[0]
    if (
        len(picture.shape) != 4
        or list(picture.shape[1:]) != [3, SIDE, SIDE]
        or len(session.get_outputs()) != 1
    ):
        raise OmegaError(f"{path} is no face network: its input {picture.name} is {picture.shape}.", hint)
    # files converted from MXNet start with these two nodes, and nodes come first in a file
    normalises = b"_minusscalar" in data[:4096] and b"_mulscalar" in data[:4096]

    def embed(face: np.ndarray) -> np.ndarray:
        x = face.astype(np.float32) if normalises else (face.astype(np.float32) - 127.5) / 127.5
        return np.asarray(session.run(None, {picture.name: x.transpose(2, 0, 1)[None]})[0])

    return embed
