"""Cameras: OpenCV axes (x right, y down, z forward), world-to-camera, pixel centres at +0.5."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Camera:
    """One calibrated camera.

    K: [3, 3] px. For "pinhole" the usual intrinsics; for "ortho" K[0,0] and K[1,1] are pixels per
    metre and K[0,2], K[1,2] the pixel at which the camera's own z axis lands (gsplat's reading).
    viewmat: [4, 4] world -> camera. width, height in px. `id` is an opaque name.
    """

    K: Tensor
    viewmat: Tensor
    width: int
    height: int
    model: Literal["pinhole", "ortho"] = "pinhole"
    id: str = ""

    def __post_init__(self) -> None:
        if tuple(self.K.shape) != (3, 3) or tuple(self.viewmat.shape) != (4, 4):
            raise ValueError(
                f"K must be [3, 3] and viewmat [4, 4], got {tuple(self.K.shape)}, {tuple(self.viewmat.shape)}"
            )

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Camera:
        return dataclasses.replace(self, K=self.K.to(device, dtype), viewmat=self.viewmat.to(device, dtype))

    def resized(self, width: int, height: int) -> Camera:
        """The same camera with another image size: every pixel quantity scales with it."""
        K = self.K.clone()
        K[0] *= width / self.width
        K[1] *= height / self.height
        return dataclasses.replace(self, K=K, width=width, height=height)

    def to_camera(self, points: Tensor) -> Tensor:  # [..., 3] -> [..., 3]
        """World points in camera axes, metres."""
        R, t = self.viewmat[:3, :3], self.viewmat[:3, 3]
        return points @ R.to(points).T + t.to(points)

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """World points [..., 3] -> pixel positions [..., 2] and camera depth [...] (m)."""
        p = self.to_camera(points)
        K = self.K.to(points)
        xy = p[..., :2] if self.model == "ortho" else p[..., :2] / p[..., 2:].clamp_min(1e-6)
        pixels = torch.stack([xy[..., 0] * K[0, 0] + K[0, 2], xy[..., 1] * K[1, 1] + K[1, 2]], dim=-1)
        return pixels, p[..., 2]

    def unproject(self, pixels: Tensor, depth: Tensor) -> Tensor:
        """The inverse of `project`: pixels [..., 2] at camera depth [...] (m) -> world points [..., 3]."""
        K = self.K.to(pixels)
        aside = (pixels - K[:2, 2]) / torch.stack([K[0, 0], K[1, 1]])
        aside = aside if self.model == "ortho" else aside * depth[..., None]
        R, t = self.viewmat[:3, :3].to(pixels), self.viewmat[:3, 3].to(pixels)
        return (torch.cat([aside, depth[..., None]], dim=-1) - t) @ R

    @property
    def position(self) -> Tensor:
        """Camera centre in the world [3] (for "ortho": a point on its axis)."""
        return -self.viewmat[:3, :3].T @ self.viewmat[:3, 3]

    @property
    def forward(self) -> Tensor:
        """Unit viewing direction in the world [3]: from the camera into the scene."""
        return self.viewmat[2, :3]

    def view_directions(self, points: Tensor) -> Tensor:
        """Unit vectors from surface points [..., 3] towards the camera [..., 3] (paper's v_k)."""
        if self.model == "ortho":
            return (-self.forward).to(points).expand_as(points)
        return torch.nn.functional.normalize(self.position.to(points) - points, dim=-1)


def orbit_viewmat(
    azimuth_deg: float, elevation_deg: float, distance: float, centre: Tensor | None = None
) -> Tensor:
    """World -> camera [4, 4] of a camera that orbits `centre` (the head: y up, face towards +z).

    azimuth 0 sees the face; positive azimuth moves the camera to the subject's left (+x), so 90 sees
    the subject's left ear. Positive elevation looks from above.
    """
    a, e = math.radians(azimuth_deg), math.radians(elevation_deg)
    back = torch.tensor([math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e)])
    right = torch.tensor([math.cos(a), 0.0, -math.sin(a)])
    down = torch.linalg.cross(-back, right)
    R = torch.stack([right, down, -back])
    centre = torch.zeros(3) if centre is None else centre.to(R)
    viewmat = torch.eye(4)
    viewmat[:3, :3] = R
    viewmat[:3, 3] = -R @ (centre + distance * back)
    return viewmat


def orthographic(
    azimuth_deg: float,
    size: int,
    half_extent: float,
    centre: Tensor | None = None,
    elevation_deg: float = 0.0,
    id: str = "",
) -> Camera:
    """Square orthographic camera that sees [-half_extent, half_extent] metres around `centre`."""
    scale = size / (2 * half_extent)
    K = torch.tensor([[scale, 0.0, size / 2], [0.0, scale, size / 2], [0.0, 0.0, 1.0]])
    viewmat = orbit_viewmat(azimuth_deg, elevation_deg, 2.0, centre)
    return Camera(K, viewmat, size, size, "ortho", id)


def perspective(
    azimuth_deg: float,
    size: int,
    half_extent: float,
    distance: float = 1.2,
    centre: Tensor | None = None,
    elevation_deg: float = 0.0,
    id: str = "",
) -> Camera:
    """Square pinhole camera at `distance` m whose image spans `half_extent` m at the centre's depth."""
    focal = size / 2 * distance / half_extent
    K = torch.tensor([[focal, 0.0, size / 2], [0.0, focal, size / 2], [0.0, 0.0, 1.0]])
    return Camera(K, orbit_viewmat(azimuth_deg, elevation_deg, distance, centre), size, size, "pinhole", id)
