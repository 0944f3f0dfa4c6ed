"""Known heads with known hair: the synthetic truth that the fit must find again."""

from __future__ import annotations

import functools

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from omega_cli.geometry.camera import Camera, orthographic
from omega_cli.geometry.mesh import face_areas, face_normals, uniform_laplacian, vertex_normals
from omega_cli.geometry.raster import interpolate, rasterize
from omega_cli.head.assets import load_head
from omega_cli.head.model import HeadModel
from omega_cli.head.params import HeadParams

AZIMUTHS = (0.0, 45.0, 90.0, 180.0, 270.0, 315.0)
CENTRE = torch.tensor([0.0, -0.01, 0.0])
HALF_EXTENT = 0.21

View = tuple[Camera, Tensor, Tensor]


@functools.cache
def head() -> HeadModel:
    return load_head()


def person(seed: int = 3) -> HeadParams:
    generator = torch.Generator().manual_seed(seed)
    params = head().zeros()
    return params.replace(betas=0.7 * torch.randn(head().S, generator=generator))


def spread(values: Tensor, region: Tensor, rounds: int) -> Tensor:
    """values [V, C] averaged with their neighbours' again and again; the region's edge stays soft."""
    L = uniform_laplacian(head().faces, len(values))
    for _ in range(rounds):
        values = values - L @ values
        values = torch.where(region[:, None], values, torch.zeros_like(values))
    return values


def hair(canonical: Tensor, thickness: float = 0.03) -> Tensor:
    """Offsets [V, 3] m: wavy hair of that thickness on the scalp, a neck thicker by 6 mm."""
    model = head()
    x, y, z = canonical.unbind(1)
    scalp, neck = model.regions["scalp"], model.regions["neck"]
    everywhere = torch.ones_like(scalp)
    outward = torch.nn.functional.normalize(
        spread(vertex_normals(canonical, model.faces), everywhere, 30), dim=1
    )
    waves = 1 + 0.25 * torch.sin(30 * x + 1) * torch.cos(25 * y) + 0.2 * torch.sin(28 * z)
    on_scalp = spread(scalp.float()[:, None], scalp, 25)[:, 0]
    on_neck = spread(neck.float()[:, None], neck, 8)[:, 0]
    bulge = 1 + 0.3 * torch.cos(2 * torch.atan2(x, z))
    return (thickness * waves * on_scalp + 0.006 * bulge * on_neck)[:, None] * outward


def photograph(posed: Tensor, size: int = 512, noise: float = 0.0) -> list[View]:
    """Six views of a posed head as mv-diffuse writes them, 8 bits. noise: views that do not agree."""
    model, views = head(), []
    normals = vertex_normals(posed, model.faces)
    for k, azimuth in enumerate(AZIMUTHS):
        camera = orthographic(azimuth, size, HALF_EXTENT, CENTRE, id=f"{int(azimuth):03d}")
        fragments = rasterize(posed, model.faces, camera)
        image = interpolate(fragments, model.faces, normals).permute(2, 0, 1)
        if noise:
            generator = torch.Generator().manual_seed(k)
            coarse = torch.randn(1, 3, 24, 24, generator=generator)
            image = image + noise * torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic")[0]
        unit = torch.nn.functional.normalize(image, dim=0)
        mask = fragments.mask.float()[None]
        views.append((camera, (((unit + 1) * 127.5).round() / 127.5 - 1) * mask, mask))
    return views


def surface_error(points: Tensor, vertices: Tensor) -> Tensor:
    """Distance [P] m from points [P, 3] to the surface, along the normal of its nearest sample."""
    model = head()
    generator = torch.Generator().manual_seed(0)
    chosen = torch.multinomial(face_areas(vertices, model.faces), 200_000, True, generator=generator)
    u = torch.rand(len(chosen), 2, generator=generator)
    u = torch.where((u.sum(1) > 1)[:, None], 1 - u, u)
    weights = torch.cat([1 - u.sum(1, keepdim=True), u], dim=1)
    samples = (vertices[model.faces[chosen]] * weights[..., None]).sum(1)
    _, nearest = cKDTree(samples.numpy()).query(points.numpy())
    normals = face_normals(vertices, model.faces)[chosen[nearest]]
    return ((points - samples[nearest]) * normals).sum(1).abs()
