"""A picture to look at: the fitted head drawn over the photo, and where the landmarks went."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from omega_cli.geometry.camera import Camera
from omega_cli.head.model import HeadModel
from omega_cli.head.params import HeadParams

_WIRE, _SEEN, _FITTED = (90, 220, 255), (60, 230, 60), (255, 60, 60)  # RGB
_SHIFT = 4  # OpenCV draws with this many fractional bits


def draw_overlay(
    image: Tensor,  # [4, H, W] straight RGBA in [0, 1]
    model: HeadModel,
    params: HeadParams,  # T = 1
    camera: Camera,
    seen: np.ndarray,  # [L, 2] px
    fitted: np.ndarray,  # [L, 2] px
) -> Tensor:  # [3, H, 2 W]
    """Left: front-facing mesh edges over the person. Right: landmarks seen (green) and fitted (red)."""
    picture = image[:3] * image[3:] + 0.35 * (1 - image[3:])
    base = np.ascontiguousarray((picture.permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8))
    pixels, _ = camera.project(model(params).vertices[0])
    wire = base.copy()
    edges = _front_edges(pixels, model.faces)
    cv2.polylines(
        wire, list(_fixed(pixels.numpy()[edges])), False, _WIRE, 1, lineType=cv2.LINE_AA, shift=_SHIFT
    )
    left = cv2.addWeighted(base, 0.55, wire, 0.45, 0)
    right = base.copy()
    for a, b in zip(_fixed(seen), _fixed(fitted), strict=True):
        cv2.line(right, tuple(a), tuple(b), _FITTED, 1, lineType=cv2.LINE_AA, shift=_SHIFT)
        cv2.circle(right, tuple(a), 16, _SEEN, -1, lineType=cv2.LINE_AA, shift=_SHIFT)
    both = np.concatenate([left, right], axis=1)
    return torch.from_numpy(both).permute(2, 0, 1).float() / 255


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.round((points - 0.5) * (1 << _SHIFT)).astype(np.int32)


def _front_edges(pixels: Tensor, faces: Tensor) -> np.ndarray:
    """Edges [N, 2] of the triangles that face the camera."""
    a, b, c = pixels[faces].unbind(1)
    u, v = b - a, c - a
    kept = faces[(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]) < 0]  # counter-clockwise outside; y points down
    edges = torch.cat([kept[:, [0, 1]], kept[:, [1, 2]], kept[:, [2, 0]]]).sort(1).values
    return edges.unique(dim=0).numpy()
