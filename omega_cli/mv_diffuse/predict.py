"""The trained view network on one lift, and what of its answer holds for a photograph."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.camera import Camera
from .conditioning import apply_residual, base_of, lift_maps, network_input, photo_maps
from .fill import push_pull
from .lift import View
from .network import ViewNet

FRONT, BACK = 0, 3  # of the six views
SMALL_COLOUR = 0.03  # change of colour that is the network's blur, not news  # ours
FADE = 0.03  # of the height over which a rule that ends at the chin fades


@torch.inference_mode()
def predict_views(
    net: ViewNet,
    views: Sequence[View],  # the lift's six
    rgba: Tensor,  # [4, H, W] the photo, straight
    labels: Tensor,  # [H, W]
    camera: Camera,  # the photo's, in the head frame
    points: Tensor,  # [68, 3] m: landmarks of the fitted head
    size: int,  # px at which the network works
    place: torch.device | str | None = None,  # where it works; None: where the views are
) -> list[View]:
    """The lift with the network's residual: the same cameras, sizes and device. Deterministic."""
    lift = lift_maps(views, size)[None]
    place = torch.device(place) if place is not None else lift.device
    photo = photo_maps(rgba.to(lift.device), labels.to(lift.device), camera, views[0].camera, points, size)[
        None
    ]
    net = net.to(place)
    with torch.autocast("cuda", torch.bfloat16, enabled=place.type == "cuda"):
        residual = net(network_input(lift, photo).to(place))[0]
    residual = residual.to(lift)
    if not residual.any():
        return list(views)
    chin = views[0].camera.resized(size, size).project(points[8])[0][1]
    settled = settle(base_of(lift[0]), residual, float(chin))
    return [apply_residual(view, change) for view, change in zip(views, settled, strict=True)]


def settle(base: Tensor, residual: Tensor, chin: float) -> Tensor:
    """What of a residual [6, 7, h, w] on the lift's maps (`base_of`) is kept. chin: px from the top.

    The front stays the lift's: it is the photo, and the lift's outline meets the photo's outline through
    the photo's own camera; photographs taught the network theirs as if it were orthographic. Above the
    chin no view has less of the head than the lift, for the same reason, and the back has its outline
    exactly: seen from behind, a body's outline is that from the front. Normals stay where the lift has a
    surface, or they would not fit these outlines. Small changes of colour are left out.
    """
    size = base.shape[-1]
    rows = (torch.arange(size, dtype=base.dtype, device=base.device)[:, None] + 0.5) / size
    above = ((chin / size - rows) / FADE).clamp(0, 1)
    predicted = base + residual
    kept = torch.zeros_like(residual)
    for view in range(len(base)):
        if view == FRONT:
            continue
        own, lifted = predicted[view, 6], base[view, 6]
        wanted = lifted if view == BACK else torch.maximum(own, lifted)
        change = with_outline(predicted[view], torch.lerp(own, wanted, above)) - base[view]
        bare = (lifted < 0.5).to(change)
        kept[view] = torch.cat([F.softshrink(change[:3], SMALL_COLOUR), change[3:6] * bare, change[6:]])
    return kept


def with_outline(maps: Tensor, alpha: Tensor) -> Tensor:  # [7, h, w], [h, w] -> [7, h, w]
    """A view (rgb on white, normal, alpha) cut and continued to another alpha.

    Pixels that come in take colour and normal from their neighbours.
    """
    old = maps[6:].clamp(0, 1)
    inner = torch.cat([(maps[:3] - (1 - old)) / old.clamp_min(0.3), maps[3:6]])
    sure = ((old - 0.5) * 4).clamp(0, 1)
    inner = torch.lerp(push_pull(inner, sure), inner, sure)
    new = alpha[None].clamp(0, 1)
    normal = F.normalize(inner[3:], dim=0, eps=1e-4) * (new > 0.02)
    return torch.cat([inner[:3].clamp(0, 1) * new + 1 - new, normal, new])
