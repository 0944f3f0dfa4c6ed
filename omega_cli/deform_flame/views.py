"""The canonical views at the size at which they are compared, one by one and as one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.geometry.camera import Camera


@dataclass(frozen=True)
class View:
    """One canonical view at the compared size: camera; normal [3, H, W] unit, world; mask [1, H, W]."""

    camera: Camera
    normal: Tensor
    mask: Tensor


def prepare_view(camera: Camera, normal: Tensor, mask: Tensor, size: int) -> View:
    """Area-average a view [3, H, W], [1, H, W] to `size`; background does not bleed into the normals."""
    side = (size, size)
    shrunk = F.adaptive_avg_pool2d((normal * mask)[None], side)[0]
    coverage = F.adaptive_avg_pool2d(mask[None], side)[0]
    return View(camera.resized(size, size), F.normalize(shrunk, dim=0, eps=1e-6), coverage)


@dataclass(frozen=True)
class Views:
    """B views of one square size on one device; every lookup takes the view's number, one per point.

    normal [B H W, 3]; mask [B, H, W]. What `Camera` says, as tables: R [B, 3, 3] and t [B, 3] world to
    camera; focal [B] and principal [B, 2] px; px_per_m [B]; perspective [B]: 1 for a pinhole, else 0;
    centre [B, 4]: a point c towards which x sees c[:3] - c[3] x (orthographic: a direction, c[3] = 0).
    finest: the largest px_per_m.
    """

    cameras: tuple[Camera, ...]
    normal: Tensor
    mask: Tensor
    R: Tensor
    t: Tensor
    focal: Tensor
    principal: Tensor
    perspective: Tensor
    centre: Tensor
    finest: float

    @property
    def size(self) -> int:
        return self.mask.shape[-1]

    def project(self, view: Tensor, points: Tensor) -> Tensor:  # [M], [M, 3] m -> [M, 2] px
        """`Camera.project`'s pixels."""
        p = self.turn(view, points) + self.t[view]
        far = self.perspective[view]
        depth = torch.lerp(torch.ones_like(far), p[:, 2].clamp_min(1e-6), far)
        return p[:, :2] / depth[:, None] * self.focal[view] + self.principal[view]

    def turn(self, view: Tensor, directions: Tensor) -> Tensor:  # [M], [M, 3] -> [M, 3]
        """World directions in camera axes."""
        return (self.R[view] * directions[:, None]).sum(-1)

    def towards(self, view: Tensor, points: Tensor) -> Tensor:  # [M], [M, 3] -> [M, 3]
        """`Camera.view_directions`: from the points to the camera, unit."""
        centre = self.centre[view]
        return F.normalize(centre[:, :3] - centre[:, 3:] * points, dim=-1)

    def towards_all(self, points: Tensor) -> Tensor:  # [V, 3] -> [B, V, 3]
        """The same from every point to every camera."""
        return F.normalize(self.centre[:, None, :3] - self.centre[:, None, 3:] * points, dim=-1)


def stack_views(views: Sequence[View]) -> Views:
    """Views of one size as one batch, on the device of their maps."""
    device = views[0].mask.device
    cameras = tuple(view.camera for view in views)
    K = torch.stack([camera.K.cpu().float() for camera in cameras])
    viewmat = torch.stack([camera.viewmat.cpu().float() for camera in cameras])
    pinhole = torch.tensor([float(camera.model == "pinhole") for camera in cameras])
    aim = torch.stack([(c.position if c.model == "pinhole" else -c.forward).cpu().float() for c in cameras])
    return Views(
        cameras=tuple(camera.to(device) for camera in cameras),
        normal=torch.stack([view.normal for view in views]).permute(0, 2, 3, 1).reshape(-1, 3),
        mask=torch.cat([view.mask for view in views]),
        R=viewmat[:, :3, :3].to(device),
        t=viewmat[:, :3, 3].to(device),
        focal=K.diagonal(dim1=1, dim2=2)[:, :2].to(device),
        principal=K[:, :2, 2].to(device),
        perspective=pinhole.to(device),
        centre=torch.cat([aim, pinhole[:, None]], dim=1).to(device),
        finest=float(K[:, 0, 0].max()),
    )
