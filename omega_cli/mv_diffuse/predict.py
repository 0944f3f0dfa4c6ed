"""The trained view network on one lift, and what of its answer holds for a photograph."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.camera import Camera
from .conditioning import apply_residual, base_of, lift_maps, network_input, photo_maps
from .fill import push_pull
from .lift import View, head_area
from .network import ViewNet

FRONT, BACK = 0, 3  # of the six views
SMALL_COLOUR = 0.03  # change of colour that is the network's blur, not news  # ours
FADE = 0.03  # of the height over which a rule that ends at the chin fades
CUT = 0.02  # of the width: so much head at its upper edge makes a photo one that cuts the crown  # ours


@torch.inference_mode()
def predict_views(
    net: ViewNet,
    views: Sequence[View],  # the lift's six
    rgba: Tensor,  # [4, H, W] the photo, straight
    labels: Tensor,  # [H, W]
    photo_area: Tensor,  # [H, W] bool: False beyond the photo's edge
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
    cut = cuts_crown(head_area(rgba[3], labels).cpu(), photo_area.cpu())
    settled = settle(base_of(lift[0]), residual, float(chin), cut)
    return [apply_residual(view, change) for view, change in zip(views, settled, strict=True)]


def cuts_crown(head: Tensor, photo_area: Tensor) -> bool:  # [H, W] bool, both
    """Whether the photo's upper edge cuts the head."""
    top = int(photo_area.any(1).to(torch.uint8).argmax())
    return int((head & photo_area)[top].sum()) >= CUT * head.shape[1]


def settle(base: Tensor, residual: Tensor, chin: float, cut: bool = False) -> Tensor:
    """What of a residual [6, 7, h, w] on the lift's maps (`base_of`) is kept. chin: px from the top; cut:
    whether the photo cuts the crown (`cuts_crown`).

    The front stays the lift's: it is the photo, and the lift's outline meets the photo's outline through
    the photo's own camera. Above the chin the back has its outline exactly: seen from behind, a body's
    outline is that from the front. Normals of the back stay where the lift has a surface, or they would not
    fit this outline. The sides, of which the photo tells least, are the network's. Small changes of colour
    are left out. Only a crown that the photo cuts off is the network's in front and behind, too.

    All six cameras are level, so what reaches a row of one reaches it in all: no side is higher than the
    front. (A mesh that follows such sides gets a ridge along its middle.)
    """
    size = base.shape[-1]
    rows = (torch.arange(size, dtype=base.dtype, device=base.device)[:, None] + 0.5) / size
    above = ((chin / size - rows) / FADE).clamp(0, 1)
    predicted = base + residual
    kept = torch.zeros_like(residual)
    own, lifted = predicted[:, 6], base[:, 6]
    grown = torch.maximum(own, lifted)
    front = lifted[FRONT]
    if cut:
        sides = [_top(grown[view]) for view in range(len(base)) if view not in (FRONT, BACK)]
        front = torch.maximum(front, raised(front, sum(sides) / len(sides), (_top(front) + chin) / 2))
    reached = front.amax(1, keepdim=True)
    for view in range(len(base)):
        if view == FRONT and not cut:
            continue
        if view == FRONT:
            alpha = front
        elif view == BACK:
            alpha = torch.lerp(own[view], torch.maximum(lifted[view], front.flip(1) * cut), above)
        else:
            alpha = own[view].minimum(torch.maximum(reached, lifted[view]))
        change = with_outline(predicted[view], alpha) - base[view]
        bare = (lifted[view] < 0.5).to(change) if view == BACK else 1.0
        kept[view] = torch.cat([F.softshrink(change[:3], SMALL_COLOUR), change[3:6] * bare, change[6:]])
        if view == FRONT:
            kept[view] = change * (change[6:] > 0.01)
    return kept


def raised(alpha: Tensor, top: float, fixed: float) -> Tensor:  # [h, w] -> [h, w]
    """A head's mask whose part above the row `fixed` is stretched until it reaches up to the row `top`."""
    old = _top(alpha)
    if not top < old < fixed:
        return alpha
    rows = torch.arange(len(alpha), dtype=alpha.dtype, device=alpha.device) + 0.5
    source = torch.where(rows < fixed, fixed - (fixed - rows) * (fixed - old) / (fixed - top), rows)
    across = torch.linspace(-1, 1, 2 * alpha.shape[1] + 1, dtype=alpha.dtype, device=alpha.device)[1::2]
    y, x = torch.meshgrid(source / len(alpha) * 2 - 1, across, indexing="ij")
    return F.grid_sample(alpha[None, None], torch.stack([x, y], -1)[None], align_corners=False)[0, 0]


def _top(alpha: Tensor) -> float:
    """The row where a mask [h, w] begins, its height where it is empty."""
    covered = alpha.amax(1) > 0.5
    return float(covered.to(torch.uint8).argmax()) if covered.any() else float(len(alpha))


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
