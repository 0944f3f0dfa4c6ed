"""What the view network is told of a head, and how its answer becomes views.

Channels of a target view's input: the lift's colour, normal, mask, trust and depth, then the aligned photo
with what its parsing says. A seventh view is the aligned photo alone. All in [-1, 1] or [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.camera import Camera
from ..geometry.similarity import similarity
from . import blur
from .lift import View
from .texture import CLOTH, HAIR_LIKE, is_in

LIFT_CHANNELS, PHOTO_CHANNELS = 9, 7
INPUTS = LIFT_CHANNELS + PHOTO_CHANNELS
OUTPUTS = 7  # colour, normal, alpha
DEPTH_RANGE = 0.2  # m: depths are divided by it
FAINT = 0.06  # change of coverage that counts as none  # ours
RIM = 0.3  # coverage below which a pixel's own colour is not told from white  # ours
EDGE = 3.0  # how much harder the outline becomes  # ours
NEWS = (0.15, 0.35)  # change of colour, over BROAD px, that says another surface than the photo's  # ours
BROAD = 7  # px of the network: wider than rims of glasses and lids, which it only draws softer  # ours
HUE = 5  # px of the network over which hair has one hue  # ours
SHARP = 0.15  # change of colour at which the lift's own fine detail has faded  # ours


def lift_maps(views: Sequence[View], size: int) -> Tensor:  # [K, 9, size, size] in [0, 1]
    """The lift as images: rgb on white, normal * 0.5 + 0.5, mask, trust, depth * 0.5 + 0.5."""
    rows = []
    for view in views:
        inside = (view.depth != 0).to(view.rgb)
        normal = (view.normal * inside) * 0.5 + 0.5
        depth = (view.depth / DEPTH_RANGE).clamp(-1, 1) * 0.5 + 0.5
        rows.append(torch.cat([view.rgb, normal, view.mask, view.trust, depth]))
    maps = torch.stack(rows)
    return maps if maps.shape[-1] == size else F.interpolate(maps, (size, size), mode="area")


def photo_maps(
    rgba: Tensor,  # [4, H, W] straight
    labels: Tensor,  # [H, W]
    camera: Camera,  # the photo's, in the head frame
    front: Camera,  # the canonical front view
    points: Tensor,  # [N, 3] m, landmarks of the fitted head
    size: int,
) -> Tensor:  # [7, size, size] in [0, 1]
    """The photo moved, turned and scaled until its landmarks lie where the front view has them.

    Channels: rgb on white, alpha, then where the parsing says hair, cloth, and anything else of the head.
    """
    own, aim = camera.project(points)[0], front.resized(size, size).project(points)[0]
    alpha = rgba[3:]
    hair = is_in(labels, HAIR_LIKE).to(rgba)[None] * alpha
    cloth = (labels == CLOTH).to(rgba)[None] * alpha
    stack = torch.cat([rgba[:3] * alpha, alpha, hair, cloth, (alpha - hair - cloth).clamp_min(0)])
    height, width = labels.shape
    to_photo = similarity(aim, own)
    scale = float(to_photo.scale)
    if scale > 1:  # the front view is coarser than the photo: average first
        stack = blur.gaussian(stack, 0.45 * scale)
    y, x = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    at = to_photo(torch.stack([x, y], -1).to(points)).to(rgba)
    grid = at / at.new_tensor([width, height]) * 2 - 1
    moved = F.grid_sample(stack[None], grid[None], padding_mode="zeros", align_corners=False)[0]
    return torch.cat([moved[:3] + 1 - moved[3:4], moved[3:]]).clamp(0, 1)


def network_input(lift: Tensor, photo: Tensor) -> Tensor:
    """lift [B, K, 9, h, w], photo [B, 7, h, w], both in [0, 1] -> [B, K + 1, 16, h, w] for the network."""
    signed = lift.new_tensor([2.0, 2, 2, 2, 2, 2, 2, 1, 2]).view(9, 1, 1)
    told = torch.cat(
        [lift * signed - (signed - 1), _signed_photo(photo)[:, None].expand(-1, lift.shape[1], -1, -1, -1)], 2
    )
    alone = torch.cat([torch.zeros_like(lift[:, :1]), _signed_photo(photo)[:, None]], 2)
    return torch.cat([told, alone], 1)


def _signed_photo(photo: Tensor) -> Tensor:
    return torch.cat([photo[:, :3] * 2 - 1, photo[:, 3:]], 1)


def base_of(lift: Tensor) -> Tensor:
    """[.., 9, h, w] lift maps -> [.., 7, h, w]: what the network's residual is added to. Colour in
    [0, 1], normal in [-1, 1] (0 where empty), alpha in [0, 1]."""
    return torch.cat([lift[..., :3, :, :], lift[..., 3:6, :, :] * 2 - 1, lift[..., 6:7, :, :]], -3)


def apply_residual(view: View, residual: Tensor) -> View:  # [7, h, w]
    """The view with the network's residual: made coarse, laid on fine.

    Fine detail is the lift's own; it fades where the network changes the colour, for there it belongs to
    something else. Where the photo saw the surface straight the colour stays the photo's, unless the network
    says that something else is seen there (hair before a cheek, of which the lift knows no depth). Flecks
    beside the head go. Zero residual gives the view back.
    """
    if not residual.any():
        return view
    size = view.rgb.shape[-1]
    broad = F.avg_pool2d(residual[None, :3], BROAD, 1, BROAD // 2, count_include_pad=False)
    low = F.interpolate(torch.cat([view.rgb, view.mask])[None], residual.shape[-2:], mode="area")
    residual = without_confetti(low[0], residual)
    large, change, news = (
        F.interpolate(maps, (size, size), mode="bicubic", align_corners=False)[0]
        for maps in (low, residual[None], broad.abs().amax(1, keepdim=True))
    )
    coarse, covered = large.split([3, 1])  # what of the view the network's pixels can show
    # Added to a sharp outline a soft change would leave a gap along it: what grows is the coarse sum.
    grows = ((change[6:] - FAINT) / FAINT).clamp(0, 1)
    # A share of what was covered is lost: a rim's few per cent go with the rest and leave no line.
    lost = (-change[6:] / covered.clamp_min(FAINT) - FAINT).clamp(0, 1)
    mask = torch.lerp(view.mask * (1 - lost), torch.maximum(view.mask, covered + change[6:]), grows)
    mask = mask.clamp(0, 1)
    mask = mask * main_part(mask)
    # Beside an outline that moves outwards the lift's own pixels are part white.
    reach = 2 * math.ceil(size / residual.shape[-1]) + 1
    settled = 1 - F.max_pool2d((mask - view.mask).clamp_min(0)[None], reach, 1, reach // 2)[0]
    keep = torch.exp(-change[:3].abs().amax(0, keepdim=True) / SHARP) * settled
    painted = coarse + change[:3] + (view.rgb - coarse) * keep
    same = ((NEWS[1] - news) / (NEWS[1] - NEWS[0])).clamp(0, 1)
    own = view.trust * same * settled * (mask / view.mask.clamp_min(1e-3)).clamp(0, 1)
    rgb = own * view.rgb + (1 - own) * painted
    # The network's rims are as soft as its pixels are wide: their colour without the white, a harder edge.
    bare = (rgb - (1 - mask)) / mask.clamp_min(RIM)
    mask = ((mask - 0.5) * EDGE + 0.5).clamp(0, 1)
    rgb = bare.clamp(0, 1) * mask + 1 - mask
    inside = (view.depth != 0).to(view.rgb)
    normal = F.normalize(view.normal * inside + change[3:6], dim=0, eps=1e-4)
    normal = torch.where(mask > FAINT, normal, 1.0)
    return View(view.camera, rgb.clamp(0, 1), normal, mask, view.trust, view.depth)


def without_confetti(low: Tensor, residual: Tensor) -> Tensor:  # [4, h, w], [7, h, w] -> [7, h, w]
    """The residual whose sum with the view has its hue smoothed over HUE px where it changes the colour.
    low: the view's rgb on white and mask.

    Single pixels of the network's hair are pink, yellow and green, which is noise; light and dark, which
    make strands, stay.
    """
    head = (low[3:] + residual[6:]).clamp(0, 1)
    hue = low[:3] + residual[:3]
    hue = hue - hue.mean(0, keepdim=True)  # white, which is behind all, has none
    near = F.avg_pool2d(torch.cat([hue, head])[None], HUE, 1, HUE // 2)[0]
    smooth = near[:3] / near[3:].clamp_min(0.05) * head
    changes = (residual[:3].abs().amax(0, keepdim=True) / SHARP).clamp(0, 1)
    return torch.cat([residual[:3] + changes * (smooth - hue), residual[3:]])


def main_part(mask: Tensor) -> Tensor:  # [1, H, W] -> [1, H, W] of 0 and 1
    """The largest connected part of the mask, and its soft rim."""
    solid = (mask[0] > 0.3).cpu().numpy().astype(np.uint8)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(solid)
    if len(stats) < 2:
        return torch.ones_like(mask)
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    near = cv2.dilate((parts == largest).astype(np.uint8), np.ones((7, 7), np.uint8))
    return torch.from_numpy(near)[None].to(mask)
