"""How the driver of examples/driver.mp4 looks: colours painted on the open head by rule, soft light.

No photograph of anybody goes in: skin, lips, brows, stubble-free cheeks, irises and hair are functions of
where a point lies on the resting head, so that landmark detectors see a face.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

from omega_cli.geometry.camera import Camera
from omega_cli.geometry.mesh import vertex_normals
from omega_cli.geometry.raster import interpolate, rasterize
from omega_cli.head.model import HeadModel

SKIN, BLUSH, LIP = (0.80, 0.60, 0.50), (0.80, 0.42, 0.36), (0.70, 0.38, 0.36)
HAIR, BROW, IRIS = (0.17, 0.11, 0.08), (0.20, 0.13, 0.10), (0.25, 0.36, 0.42)
SCLERA, TEETH, CAVITY, TONGUE = (0.90, 0.88, 0.86), (0.86, 0.83, 0.76), (0.22, 0.07, 0.07), (0.62, 0.30, 0.30)
BACKDROP = ((0.55, 0.61, 0.66), (0.36, 0.41, 0.47))  # top, bottom
SUPERSAMPLE = 2


def smoothstep(low: float, high: float, x: Tensor) -> Tensor:
    x = ((x - low) / (high - low)).clamp(0, 1)
    return x * x * (3 - 2 * x)


class Look:
    """Per-vertex facts of the resting head from which each pixel's colour follows."""

    def __init__(self, head: HeadModel, shaped: Tensor) -> None:
        self.head = head
        normals = vertex_normals(shaped, head.faces)
        region = {name: mask.float() for name, mask in head.regions.items()}
        self.eyes = [shaped[head.regions[name]] for name in ("left_eye", "right_eye")]
        skin = shaped[head.regions["face"] & (shaped[:, 2] > 0)]
        self.brows = [self._brow(eye.mean(0), skin) for eye in self.eyes]
        self.hairline = float(self.brows[0][:, 1].max()) + 0.042
        nose = shaped[head.regions["nose"]]
        self.nose = nose[nose[:, 2].argmax()]
        smooth = {name: self._soften(region[name]) for name in ("scalp", "lips")}
        hard = {name: region[name] for name in ("eyes", "teeth", "tongue", "mouth_inside")}
        # interpolated to pixels: resting position (3), then the masks in this order
        self.mask_names = (*smooth, *hard)
        masks = torch.stack([*smooth.values(), *hard.values()], 1)
        self.values = torch.cat([shaped, masks], 1)
        self.hair_offsets = self._hair(shaped, normals, smooth["scalp"])
        self.spheres = [(e.mean(0), e) for e in self.eyes]

    @staticmethod
    def _brow(eye: Tensor, skin: Tensor) -> Tensor:
        """An arc [7, 3] m on the skin above an eyeball's centre; it drops towards the temple."""
        outward = torch.linspace(-0.017, 0.024, 7)
        x = eye[0] + outward * eye[0].sign()
        y = eye[1] + 0.0225 + 0.006 * torch.sin(torch.linspace(0.4, 2.9, 7)) - 0.1 * outward.clamp_min(0)
        xy = torch.stack([x, y], 1)
        return torch.cat([xy, skin[torch.cdist(xy, skin[:, :2]).argmin(1), 2:]], 1)

    def _soften(self, mask: Tensor, rounds: int = 2) -> Tensor:
        """A region's mask with a soft border: averaged over triangles, `rounds` times."""
        faces, V = self.head.faces, len(mask)
        count = torch.zeros(V).index_add_(0, faces.flatten(), torch.ones(faces.numel())).clamp_min(1)
        for _ in range(rounds):
            mean = mask[faces].mean(1, keepdim=True).expand(-1, 3)
            mask = torch.zeros(V).index_add_(0, faces.flatten(), mean.flatten()) / count
        return mask

    def _hair(self, shaped: Tensor, normals: Tensor, scalp: Tensor) -> Tensor:
        """Offsets [V, 3] m that lift the scalp into a short head of hair."""
        up = smoothstep(self.hairline - 0.03, self.hairline + 0.04, shaped[:, 1])
        back = smoothstep(0.03, -0.04, shaped[:, 2])
        amount = 0.016 * scalp * torch.maximum(up, 0.7 * back)
        for _ in range(3):
            amount = 0.5 * amount + 0.5 * self._soften(amount, 1)
        return normals * amount[:, None]

    def albedo(self, p: Tensor, masks: dict[str, Tensor]) -> Tensor:  # [n, 3] -> [n, 3]
        """Colour at resting positions p (m)."""
        noise = self._noise(p)
        color = torch.tensor(SKIN) + 0.012 * noise[:, None]
        side = torch.tensor([1.0, -1.0])
        cheek = self.nose + torch.stack([side * 0.038, side * 0 - 0.004, side * 0 - 0.03], 1)
        blush = sum(torch.exp(-((p - c).square().sum(1)) / (2 * 0.017**2)) for c in cheek)
        color = self._mix(
            color, BLUSH, 0.35 * blush + 0.2 * torch.exp(-(p - self.nose).square().sum(1) / 2e-4)
        )
        color = self._mix(color, LIP, 0.85 * smoothstep(0.25, 0.7, masks["lips"]))
        strands = 0.5 + 0.5 * torch.sin(900 * p[:, 0] + 700 * p[:, 1] + 6 * noise)
        for brow in self.brows:
            color = self._mix(color, BROW, self._near_line(p, brow, 0.0036) * (0.75 + 0.25 * strands))
        height = p[:, 1] - self.hairline + 0.002 * noise
        front = smoothstep(-0.02, 0.03, p[:, 2] - self.head_middle())
        hair = smoothstep(0.35, 0.6, masks["scalp"]) * torch.maximum(
            smoothstep(-0.004, 0.004, height), 1 - front
        )
        shade = (0.75 + 0.5 * (0.5 + 0.5 * torch.sin(420 * p[:, 0] + 160 * p[:, 2] + 5 * noise)))[:, None]
        color = color * (1 - hair[:, None]) + hair[:, None] * torch.tensor(HAIR) * shade
        for name, plain in (("mouth_inside", CAVITY), ("tongue", TONGUE), ("teeth", TEETH)):
            color = self._mix(color, plain, (masks[name] > 0.5).float())
        return torch.where((masks["eyes"] > 0.5)[:, None], self._eye(p), color)

    def head_middle(self) -> float:
        return float(self.nose[2]) - 0.09

    def _eye(self, p: Tensor) -> Tensor:
        """Sclera, iris and pupil by the angle from the eye's own forward axis."""
        color = torch.tensor(SCLERA).expand(len(p), 3)
        for centre, vertices in self.spheres:
            radius = float((vertices - centre).norm(dim=1).mean())
            away = (p[:, :2] - centre[:2]).norm(dim=1) / radius
            here = ((p - centre).norm(dim=1) < 2 * radius) & (p[:, 2] > centre[2])
            iris = smoothstep(0.52, 0.46, away)[:, None]
            tone = torch.tensor(IRIS) * (0.55 + 0.9 * smoothstep(0.5, 0.2, away))[:, None]
            painted = color * (1 - iris) + tone * iris
            painted = painted * (1 - smoothstep(0.24, 0.19, away))[:, None]
            color = torch.where(here[:, None], painted, color)
        return color

    @staticmethod
    def _mix(color: Tensor, other: tuple[float, ...], share: Tensor) -> Tensor:
        share = share.clamp(0, 1)[:, None]
        return color * (1 - share) + torch.tensor(other) * share

    @staticmethod
    def _near_line(p: Tensor, line: Tensor, width: float) -> Tensor:
        """1 on the polyline [L, 3] falling to 0 at about `width` m beside it (height counts most)."""
        best = torch.full((len(p),), 1e9)
        for a, b in itertools.pairwise(line):
            share = (((p - a) @ (b - a)) / (b - a).square().sum()).clamp(0, 1)[:, None]
            gap = (p - (a + share * (b - a))) * torch.tensor([1.0, 1.0, 0.3])
            best = torch.minimum(best, gap.norm(dim=1))
        return smoothstep(1.3 * width, 0.7 * width, best)

    @staticmethod
    def _noise(p: Tensor) -> Tensor:
        """Cheap smooth noise in [-1, 1] from the resting position."""
        a = torch.sin(310 * p[:, 0] + 4 * torch.sin(220 * p[:, 1]))
        return a * torch.sin(270 * p[:, 1] + 4 * torch.sin(250 * p[:, 2]))


def draw(look: Look, vertices: Tensor, camera: Camera) -> np.ndarray:
    """One frame, uint8 [H, W, 3]: the posed head [V, 3] under a key, a fill and a rim light."""
    big = camera.resized(camera.width * SUPERSAMPLE, camera.height * SUPERSAMPLE)
    faces = look.head.faces
    fragments = rasterize(vertices, faces, big)
    seen = fragments.face_index >= 0
    normals = vertex_normals(vertices, faces)
    values = interpolate(fragments, faces, torch.cat([look.values, normals, vertices], 1))[seen]
    count = len(look.mask_names)
    masks = {name: values[:, 3 + i] for i, name in enumerate(look.mask_names)}
    normal = torch.nn.functional.normalize(values[:, 3 + count : 6 + count], dim=1)
    color = look.albedo(values[:, :3], masks)
    view = torch.nn.functional.normalize(camera.position - values[:, 6 + count :], dim=1)
    light = torch.full((len(values),), 0.42)
    for direction, strength in (((0.5, 0.6, 0.8), 0.52), ((-0.7, 0.1, 0.7), 0.22), ((0.0, 0.9, -0.6), 0.12)):
        toward = torch.nn.functional.normalize(torch.tensor(direction), dim=0)
        light = light + strength * ((normal @ toward + 0.35) / 1.35).clamp_min(0)
    half = torch.nn.functional.normalize(
        view + torch.nn.functional.normalize(torch.tensor([0.5, 0.6, 0.8]), dim=0), dim=1
    )
    wet = (masks["eyes"] > 0.5).float()
    gloss = (0.07 + 0.5 * wet) * (normal * half).sum(1).clamp_min(0) ** (18 + 160 * wet)
    inside = (masks["mouth_inside"] > 0.5) | (masks["tongue"] > 0.5)
    light = torch.where(inside, 0.75 * light, light)
    shaded = (color * light[:, None] + gloss[:, None]).clamp(0, 1)
    ramp = torch.linspace(0, 1, big.height)[:, None, None]
    image = (torch.tensor(BACKDROP[0]) * (1 - ramp) + torch.tensor(BACKDROP[1]) * ramp).expand(
        big.height, big.width, 3
    )
    image = image.clone()
    image[seen] = shaded
    small = torch.nn.functional.avg_pool2d(image.permute(2, 0, 1)[None], SUPERSAMPLE)[0]
    return (small.permute(1, 2, 0) * 255 + 0.5).to(torch.uint8).numpy()
