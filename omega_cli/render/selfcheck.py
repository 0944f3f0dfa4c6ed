"""Self-check: the avatar, driven by its own photo's parameters, against the photo."""

from __future__ import annotations

import numpy as np
import scipy.ndimage
import torch
from torch import Tensor

HEAD_LABELS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15)  # skin … neck, hair, hat: not cloth, not background
CLOTHES = (12, 13)  # necklace, cloth: neither head nor asked of the avatar
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


def head_mask(parsing: Tensor, solid: Tensor) -> Tensor:
    """Pixels [H, W] bool of the photo's head: the connected part of head labels that holds most face.

    Parsers call parts of helmets, microphones and bystanders hair or skin; apart from the head, they
    are not it. `solid` [H, W] bool: pixels that the matte keeps.
    """
    head = label_mask(parsing, HEAD_LABELS) & solid
    parts = np.empty(head.shape, np.int32)
    count = int(scipy.ndimage.label(head.numpy(), output=parts))  # type: ignore[arg-type]
    if count <= 1:
        return head
    face = label_mask(parsing, FACE_LABELS) & head
    share = torch.bincount(torch.from_numpy(parts)[face], minlength=count + 1)
    return head & (torch.from_numpy(parts) == int(share[1:].argmax()) + 1)


def compare_with_source(
    rendered: Tensor,  # [3, H, W] over `background`
    alpha: Tensor,  # [H, W] the avatar's coverage
    source: Tensor,  # [4, H, W] straight alpha
    parsing: Tensor,  # [H, W] integer labels
    background: Tensor,  # [3]
) -> dict[str, float]:
    """PSNR over the head mask and over the face; overlap of the silhouettes (IoU of head and avatar).

    The head mask is the photo's: pixels of the head's parsing labels with matte above one half. A hole
    or a missing strand in the avatar counts, because background is compared with hair there. The
    overlap leaves out pixels of the photo's clothes and anything below the photo's neck.
    """
    target = source[:3] * source[3:] + background[:, None, None] * (1 - source[3:])
    solid = source[3] > 0.5
    head = head_mask(parsing, solid)
    face = label_mask(parsing, FACE_LABELS) & solid
    rows = torch.nonzero(head.any(1)).flatten()
    above = torch.arange(len(parsing))[:, None] <= (rows.max() if len(rows) else len(parsing))
    avatar = (alpha > 0.5) & ~(label_mask(parsing, CLOTHES) & solid) & above
    union = (head | avatar).sum().clamp_min(1)
    return {
        "psnr_head": psnr(rendered, target, head),
        "psnr_face": psnr(rendered, target, face),
        "silhouette_iou": float((head & avatar).sum() / union),
    }
