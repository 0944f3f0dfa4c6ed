"""Blurs of images [C, H, W] with zeros beyond the edge: OpenCV's on the CPU, convolutions on a GPU.

OpenCV is ten times faster than a convolution of torch's on two cores.
"""

from __future__ import annotations

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian(images: Tensor, sigma: float) -> Tensor:  # [C, H, W]
    """Gaussian of `sigma` px, cut at three sigma."""
    radius = max(1, int(3 * sigma))
    if images.device.type == "cpu":
        side = 2 * radius + 1
        return _planes(
            images, lambda p: cv2.GaussianBlur(p, (side, side), sigma, borderType=cv2.BORDER_CONSTANT)
        )
    x = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, -1)
    rows = F.conv2d(images[:, None], kernel[..., None, :], padding=(0, radius))
    return F.conv2d(rows, kernel[..., None], padding=(radius, 0))[:, 0]


def box(images: Tensor, height: int, width: int) -> Tensor:  # [C, H, W], odd sides
    """Mean over height x width."""
    if images.device.type == "cpu":
        return _planes(images, lambda p: cv2.blur(p, (width, height), borderType=cv2.BORDER_CONSTANT))
    return F.avg_pool2d(images[None], (height, width), 1, (height // 2, width // 2))[0]


def within(values: Tensor, mask: Tensor, sigma: float) -> Tensor:  # [C, H, W], [1, H, W]
    """Gaussian blur that reads only inside the mask."""
    blurred = gaussian(torch.cat([values * mask, mask]), sigma)
    return blurred[:-1] / blurred[-1:].clamp_min(1e-4)


def _planes(images: Tensor, blur) -> Tensor:
    planes = images.permute(1, 2, 0).contiguous().numpy()
    return torch.from_numpy(blur(planes).reshape(planes.shape)).permute(2, 0, 1)
