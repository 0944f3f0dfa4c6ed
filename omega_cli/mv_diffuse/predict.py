"""The trained view network on one lift."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.camera import Camera
from .conditioning import apply_residual, lift_maps, network_input, photo_maps
from .lift import View
from .network import ViewNet

LOWEST = 0.69  # of the front view's height down to which photos taught the network


@torch.inference_mode()
def predict_views(
    net: ViewNet,
    views: Sequence[View],  # the lift's six
    rgba: Tensor,  # [4, H, W] the photo, straight
    labels: Tensor,  # [H, W]
    camera: Camera,  # the photo's, in the head frame
    points: Tensor,  # [68, 3] m: landmarks of the fitted head
    size: int,  # px at which the network works
    device: torch.device | str = "cpu",
) -> list[View]:
    """The lift with the network's residual: the same cameras and sizes. Deterministic."""
    lift = lift_maps(views, size)[None].to(device)
    photo = photo_maps(rgba, labels, camera, views[0].camera, points, size)[None].to(device)
    on_gpu = torch.device(device).type == "cuda"
    net = net.to(device)
    with torch.autocast("cuda", torch.bfloat16, enabled=on_gpu):
        residual = net(network_input(lift, photo))[0]
    residual = residual.float().cpu()
    chin = views[0].camera.resized(size, size).project(points[8])[0][1]
    residual[0] *= front_reach(photo[0, 4:6].cpu(), float(chin))
    return [apply_residual(view, change) for view, change in zip(views, residual, strict=True)]


def front_reach(parts: Tensor, chin: float) -> Tensor:  # [2, h, w] hair and cloth, px -> [1, h, w]
    """Where the front view may differ from the lift: the photo says what is there.

    From the chin on upward everywhere but on cloth; below it only what the photo calls hair: shoulders are
    no part of an avatar, and the photos of the training end there.
    """
    size = parts.shape[-1]
    rows = (torch.arange(size)[:, None] + 0.5) / size
    above = ((chin / size + 0.02 - rows) / 0.03).clamp(0, 1).expand(1, size, size)
    hair, cloth = F.max_pool2d(parts[None], 5, 1, 2)[0].split(1)
    return torch.maximum(above * (1 - cloth), hair) * ((LOWEST - rows) / 0.03).clamp(0, 1)
