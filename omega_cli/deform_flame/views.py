"""The canonical views at the size at which they are compared, one by one and as one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.geometry.camera import Camera
from omega_cli.geometry.raster import Fragments, clip_vertices
from omega_cli.kernels.mesh_raster import rasterize_mesh


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

    normal [B H W, 3]; mask [B, H, W]. What the cameras say, as tables: clip [B, 4, 4]: homogeneous points
    to `clip_vertices`' coordinates; axes [B, 2, 3]: the pictures' x and y in the world; px_per_m [B]
    (a pinhole's at 1 m); centre [B, 4]: a point c towards which x sees c[:3] - c[3] x (orthographic: a
    direction, c[3] = 0). finest: the most pixels that a metre covers at the head.
    """

    normal: Tensor
    mask: Tensor
    clip: Tensor
    axes: Tensor
    px_per_m: Tensor
    centre: Tensor
    finest: float

    @property
    def size(self) -> int:
        return self.mask.shape[-1]

    def rasterize(self, vertices: Tensor, faces: Tensor) -> Fragments:  # [V, 3] m -> [B, H, W]
        """What each view sees of a mesh, as `geometry.raster.rasterize_views` has it: the cameras are
        tables already, which saves the 60 small operations that build them."""
        points = F.pad(vertices.detach(), (0, 1), value=1.0)
        return rasterize_mesh(points @ self.clip.transpose(1, 2), faces, (self.size, self.size))

    def project(self, view: Tensor, points: Tensor) -> Tensor:  # [M], [M, 3] m -> [M, 2] px
        """`Camera.project`'s pixels."""
        clip = self.clip[view]
        p = (clip[..., :3] * points[:, None]).sum(-1) + clip[..., 3]
        return p[:, :2] / p[:, 3:].clamp_min(1e-6)

    def scale(self, view: Tensor, points: Tensor) -> Tensor:  # [M], [M, 3] m -> [M]
        """Pixels that a metre covers at the points."""
        row = self.clip[view, 3]
        depth = (row[:, :3] * points).sum(1) + row[:, 3]  # 1 where the camera is orthographic
        return self.px_per_m[view] / depth.clamp_min(1e-6)

    def across(self, view: Tensor, directions: Tensor) -> Tensor:  # [M], [M, 3] -> [M, 2]
        """World directions along the pictures' x and y."""
        return (self.axes[view] * directions[:, None]).sum(-1)

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
    cameras = [view.camera.to("cpu") for view in views]
    pinhole = torch.tensor([float(camera.model == "pinhole") for camera in cameras])
    aim = torch.stack([c.position if c.model == "pinhole" else -c.forward for c in cameras])
    px_per_m = torch.stack([camera.K[0, 0] for camera in cameras])
    at_head = [c.K[0, 0] / (c.position.norm() if c.model == "pinhole" else 1.0) for c in cameras]
    return Views(
        normal=torch.stack([view.normal for view in views]).permute(0, 2, 3, 1).reshape(-1, 3),
        mask=torch.cat([view.mask for view in views]),
        clip=torch.stack([_clip_matrix(camera) for camera in cameras]).to(device),
        axes=torch.stack([camera.viewmat[:2, :3] for camera in cameras]).to(device),
        px_per_m=px_per_m.to(device),
        centre=torch.cat([aim, pinhole[:, None]], dim=1).to(device),
        finest=float(torch.stack(at_head).max()),
    )


def _clip_matrix(camera: Camera) -> Tensor:
    """[4, 4]: `clip_vertices`, which is affine, as a matrix; in float64, for its differences."""
    at = clip_vertices(torch.cat([torch.eye(3), torch.zeros(1, 3)]).double(), camera)
    return torch.cat([at[:3] - at[3], at[3:]]).T.float()
