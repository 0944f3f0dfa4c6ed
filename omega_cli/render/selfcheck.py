"""Self-check: the avatar, driven by its own photo's parameters, against the photo."""

from __future__ import annotations

import torch
from torch import Tensor

HEAD_LABELS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15)  # skin … neck, hair, hat: not cloth, not background
FACE_LABELS = (1, 2, 3, 7, 8, 9, 10)  # skin, brows, eyes, nose, mouth


def psnr(image: Tensor, target: Tensor, mask: Tensor) -> float:
    """Peak signal-to-noise ratio, dB, of [C, H, W] images in [0, 1] over a boolean mask [H, W].

    inf where they agree exactly; nan where the mask is empty.
    """
    error = (image - target)[:, mask].double().square()
    if error.numel() == 0:
        return float("nan")
    mse = error.mean()
    return float("inf") if mse == 0 else float(-10 * torch.log10(mse))


def label_mask(parsing: Tensor, labels: tuple[int, ...]) -> Tensor:
    """Pixels [H, W] bool whose parsing label (avatar/layout.py's numbering) is one of `labels`."""
    return torch.isin(parsing, torch.tensor(labels, dtype=parsing.dtype))


def compare_with_source(
    rendered: Tensor,  # [3, H, W] over `background`
    alpha: Tensor,  # [H, W] the avatar's coverage
    source: Tensor,  # [4, H, W] straight alpha
    parsing: Tensor,  # [H, W] integer labels
    background: Tensor,  # [3]
) -> dict[str, float]:
    """PSNR over the head mask and over the face; overlap of the silhouettes (IoU of head and avatar).

    The head mask is the photo's: pixels of the head's parsing labels with matte above one half. A hole
    or a missing strand in the avatar counts, because background is compared with hair there.
    """
    target = source[:3] * source[3:] + background[:, None, None] * (1 - source[3:])
    solid = source[3] > 0.5
    head = label_mask(parsing, HEAD_LABELS) & solid
    face = label_mask(parsing, FACE_LABELS) & solid
    avatar = alpha > 0.5
    union = (head | avatar).sum().clamp_min(1)
    return {
        "psnr_head": psnr(rendered, target, head),
        "psnr_face": psnr(rendered, target, face),
        "silhouette_iou": float((head & avatar).sum() / union),
    }
