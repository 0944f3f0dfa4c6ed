"""What the benchmarks run: synthetic inputs of the shapes that the stages use, and the torch-native way."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from omega_cli.kernels import reference
from omega_cli.kernels.bench_timing import Call, Case, input_sets
from omega_cli.kernels.gaussian_raster import rasterize_gaussians
from omega_cli.kernels.mesh_raster import rasterize_mesh
from omega_cli.kernels.uv_splat import uv_splat, uv_splat_pyramid

FLOAT = 4  # bytes


@dataclass(frozen=True)
class Sizes:
    """What to run. splats and pyramids: (views, picture side, channels, map side); gaussians, with the
    torch reference: (count, picture side); the reference is far too slow for the former."""

    splats: tuple[tuple[int, int, int, int], ...]
    pyramids: tuple[tuple[int, int, int, int], ...]
    levels: int = 4
    gaussians: tuple[int, int] = (100_000, 512)
    reference_gaussians: tuple[int, int] = (20_000, 256)
    channels: tuple[int, ...] = (3, 32)
    triangles: int = 10_000
    mesh_views: int = 1
    mesh_side: int = 512
    posed: int = 80_000


SIZES = {
    "cpu": Sizes(splats=((1, 512, 64, 256), (1, 296, 256, 256)), pyramids=((1, 512, 64, 256),)),
    "cuda": Sizes(
        splats=((6, 128, 256, 256), (6, 256, 128, 256), (6, 512, 64, 512)),
        pyramids=((6, 128, 256, 256), (6, 256, 128, 256), (6, 512, 64, 512)),
        triangles=12_000,
        mesh_views=6,
    ),
}


def view_uv(views: int, side: int, device: str) -> Tensor:  # [B, P, 2]
    """Where the pixels of a view land on the map: a turned, slightly warped grid, as a smooth surface
    gives. Neighbouring pixels land in neighbouring texels; nearly all of them inside."""
    step = (torch.arange(side, device=device) + 0.5) / side - 0.5
    y, x = torch.meshgrid(step, step, indexing="ij")
    maps = []
    for view in range(views):
        turn = 0.3 + 0.5 * view
        cos, sin, size = math.cos(turn), math.sin(turn), 0.7
        u = 0.5 + size * (cos * x - sin * y) + 0.02 * torch.sin(6 * y + view)
        v = 0.5 + size * (sin * x + cos * y) + 0.02 * torch.sin(5 * x - view)
        maps.append(torch.stack([u, v], -1).reshape(-1, 2))
    return torch.stack(maps)


def random_uv(views: int, side: int, device: str, seed: int = 0) -> Tensor:
    """No order at all: the worst for every cache."""
    generator = torch.Generator(device).manual_seed(seed)
    return torch.rand(views, side * side, 2, generator=generator, device=device)


def index_add_splat(values: Tensor, uv: Tensor, size: tuple[int, int]) -> Tensor:  # [B, H, W, C]
    """The usual way in torch: one index_add_ for each of the four corners."""
    (B, P, C), (H, W) = values.shape, size
    x, y = uv[..., 0] * W - 0.5, uv[..., 1] * H - 0.5
    x0, y0 = x.detach().floor(), y.detach().floor()
    first = torch.arange(B, device=uv.device)[:, None] * (H * W)
    out = values.new_zeros(B * H * W, C)
    for dy, wy in ((0, 1 - (y - y0)), (1, y - y0)):
        for dx, wx in ((0, 1 - (x - x0)), (1, x - x0)):
            xi, yi = x0 + dx, y0 + dy
            weight = wx * wy * ((xi >= 0) & (xi < W) & (yi >= 0) & (yi < H))
            texel = first + (yi.clamp(0, H - 1) * W + xi.clamp(0, W - 1)).long()
            out.index_add_(0, texel.flatten(), (values * weight[..., None]).reshape(B * P, C))
    return out.reshape(B, H, W, C)


def index_add_pyramid(
    values: Tensor, extra: Tensor, uv: Tensor, side: int, levels: int
) -> list[Tensor]:  # [B, side >> l, side >> l, C + 2]
    """The usual way: the finest level once, coarser ones as sums of its texels."""
    maps = [index_add_splat(torch.cat([values, extra], dim=-1), uv, (side, side))]
    for _ in range(levels - 1):
        maps.append(reference.pool(maps[-1]))
    return maps


def splat_cases(sizes: Sizes, device: str) -> Iterator[Case]:
    """Forward, and backward alone through a kept graph; smooth and random uv."""
    for B, side, C, map_side in sizes.splats:
        P, texels, size = side * side, map_side * map_side, (map_side, map_side)
        moved = FLOAT * B * (P * (C + 2) + texels * C)  # values and uv in, the map out
        sets = input_sets(device, moved)
        for kind, make_uv in (("smooth", view_uv), ("random", random_uv)):
            uv = make_uv(B, side, device)
            values = [torch.randn(B, P, C, device=device) for _ in range(sets)]
            shape = f"{B} × {side}² × {C} → {map_side}², {kind}"
            yield Case(
                "uv_splat",
                shape,
                [partial(uv_splat, v, uv, size) for v in values],
                [partial(index_add_splat, v, uv, size) for v in values],
                "index_add_",
                moved,
            )
            grad = torch.randn(B, map_side, map_side, C, device=device)
            yield Case(
                "uv_splat backward",
                shape,
                [
                    backward(lambda v, u, s=size: uv_splat(v, u, s).permute(0, 2, 3, 1), v, uv, grad)
                    for v in values
                ],
                [backward(lambda v, u, s=size: index_add_splat(v, u, s), v, uv, grad) for v in values],
                "index_add_",
                # the map's gradient, values and uv in; gradients of values and uv out
                FLOAT * B * (texels * C + 2 * P * (C + 2)),
            )


def backward(splat, values: Tensor, uv: Tensor, grad: Tensor) -> Call:
    """A call of the backward pass alone."""
    leaves = values.detach().requires_grad_(), uv.detach().requires_grad_()
    out = splat(*leaves)
    return lambda: torch.autograd.grad(out, leaves, grad, retain_graph=True)


def pyramid_cases(sizes: Sizes, device: str) -> Iterator[Case]:
    """The finest level alone, then all levels with density and confidence: the second tells how many
    times the first it takes."""
    for B, side, C, map_side in sizes.pyramids:
        P, size, levels = side * side, (map_side, map_side), sizes.levels
        texels = sum((map_side >> level) ** 2 for level in range(levels))
        finest = FLOAT * B * (P * (C + 2) + map_side**2 * C)
        extra = torch.rand(B, P, 2, device=device)
        for kind, make_uv in (("smooth", view_uv), ("random", random_uv)):
            uv = make_uv(B, side, device)
            values = [torch.randn(B, P, C, device=device) for _ in range(input_sets(device, finest))]
            shape = f"{B} × {side}² × {C} → {map_side}², {kind}"
            yield Case(
                "finest level",
                shape,
                [partial(uv_splat, v, uv, size) for v in values],
                bytes=finest,
            )

            yield Case(
                "uv_splat_pyramid",
                f"{shape}, {levels} levels + 2",
                [partial(uv_splat_pyramid, v, uv, size, levels, extra=extra) for v in values],
                [partial(index_add_pyramid, v, extra, uv, map_side, levels) for v in values],
                "index_add_, pool",
                FLOAT * B * (P * (C + 4) + texels * (C + 2)),
                multiple_of="the finest level",
            )


def shell_gaussians(count: int, C: int, side: int, device: str) -> list[Tensor]:
    """means, quats, scales, opacities, colors on a head-like ellipsoid 1 m away, of 0.7 to 1.3 px."""
    g = torch.Generator().manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=-1)
    metres_a_pixel = 0.3 / side
    parts = [
        direction * torch.tensor([0.09, 0.13, 0.11]) + torch.tensor([0.0, 0.0, 1.0]),
        torch.nn.functional.normalize(torch.randn(count, 4, generator=g), dim=-1),
        (torch.rand(count, 3, generator=g) * 0.6 + 0.7) * metres_a_pixel,
        torch.rand(count, generator=g) * 0.5 + 0.4,
        torch.rand(count, C, generator=g),
    ]
    return [part.to(device) for part in parts]


def gaussian_call(parts: list[Tensor], side: int, backend: str, backward: bool) -> Call:
    """Draw once; with `backward`, also the gradients of everything. backend: gsplat too, for a GPU."""
    focal = side / 0.3
    K = torch.tensor([[focal, 0, side / 2], [0, focal, side / 2], [0, 0, 1]], device=parts[0].device)
    viewmat = torch.eye(4, device=parts[0].device)

    def draw(parts: list[Tensor]) -> Tensor:
        if backend == "gsplat":
            from gsplat import rasterization

            return rasterization(*parts, viewmat[None], K[None], side, side, packed=False)[0]  # type: ignore
        return rasterize_gaussians(*parts, viewmat=viewmat, K=K, width=side, height=side, backend=backend)[0]

    if not backward:
        return lambda: draw(parts)
    leaves = [part.clone().requires_grad_() for part in parts]
    grad = torch.randn_like(draw(leaves).detach())
    return lambda: torch.autograd.grad(draw(leaves), leaves, grad)


def gaussian_cases(sizes: Sizes, device: str) -> Iterator[Case]:
    """The size that counts, then a small one against the torch reference."""
    ours = "gsplat" if torch.device(device).type == "cuda" else "native"
    if ours == "gsplat" and importlib.util.find_spec("gsplat") is None:
        sys.stderr.write("gsplat is not installed: no Gaussians on CUDA in this table\n")
        return
    for (count, side), compared in ((sizes.gaussians, False), (sizes.reference_gaussians, True)):
        for C in sizes.channels:
            parts = shell_gaussians(count, C, side, device)
            for both in (False, True):
                calls = [[gaussian_call(parts, side, way, both)] for way in (ours, "torch")[: 1 + compared]]
                shape = f"{count // 1000} k, {side}², {C} channels"
                name = f"gaussians ({ours})" + (" forward + backward" if both else "")
                yield Case(name, shape, calls[0], calls[1] if compared else (), "torch reference")


def ball_in_clip(triangles: int, views: int, side: int, device: str) -> tuple[Tensor, Tensor]:
    """clip_vertices [B, V, 4] and faces [F, 3] of a closed ball that fills most of the picture."""
    around = max(3, round(math.sqrt(triangles)))
    down = max(2, round(triangles / (2 * around)))
    theta = torch.linspace(0.02, math.pi - 0.02, down + 1)[:, None]
    phi = torch.arange(around) * (2 * math.pi / around)
    y, ring = torch.cos(theta).expand(-1, around), torch.sin(theta)
    clips = []
    for view in range(views):
        x, z = ring * torch.sin(phi + view), 3 - ring * torch.cos(phi + view)
        pixel = torch.stack([x, y], -1) * (1.2 * side) / z[..., None] + side / 2
        clips.append(torch.cat([pixel * z[..., None], z[..., None], z[..., None]], -1).reshape(-1, 4))
    row, column = torch.meshgrid(torch.arange(down), torch.arange(around), indexing="ij")
    a, b = row * around + column, row * around + (column + 1) % around
    c, d = b + around, a + around
    faces = torch.stack([torch.stack([a, b, c], -1), torch.stack([c, d, a], -1)]).reshape(-1, 3)
    return torch.stack(clips).to(device), faces.to(device)


def mesh_cases(sizes: Sizes, device: str) -> Iterator[Case]:
    """All views in one call."""
    B, side = sizes.mesh_views, sizes.mesh_side
    clip, faces = ball_in_clip(sizes.triangles, B, side, device)

    def plain() -> None:
        for view in clip:
            reference.mesh_raster(view, faces, (side, side))

    yield Case(
        "rasterize_mesh",
        f"{B} × {len(faces)} triangles, {side}²",
        [lambda: rasterize_mesh(clip, faces, (side, side))],
        [plain],
        "torch reference",
        # vertices and faces in; face index, barycentrics and depth out
        B * (16 * clip.shape[1] + 24 * len(faces) + (8 + 12 + 4) * side * side),
    )


def pose_cases(sizes: Sizes, device: str) -> Iterator[Case]:
    """Gaussians carried by a moved surface."""
    from omega_cli.gaussians.binding import pose_gaussians
    from omega_cli.gaussians.model import Gaussians
    from omega_cli.gaussians.surface_motion import SurfaceMotion

    clip, faces = ball_in_clip(10_000, 1, 512, "cpu")
    vertices = torch.nn.functional.normalize(clip[0, :, :3] / 512 - torch.tensor([1.5, 1.5, 0.0]), dim=-1)
    g = torch.Generator().manual_seed(0)
    face = torch.randint(0, len(faces), (sizes.posed,), generator=g)
    barycentric = torch.nn.functional.normalize(torch.rand(sizes.posed, 3, generator=g), p=1, dim=-1)
    corners = faces[face].to(torch.int32).contiguous()
    means = (vertices[faces[face]] * barycentric[..., None]).sum(1)
    parts = shell_gaussians(sizes.posed, 3, 512, device)
    canonical = Gaussians(means.to(device), *parts[1:])
    motion = SurfaceMotion.between(vertices.to(device), faces.to(device))
    moved = (vertices * torch.tensor([1.1, 0.95, 1.0])).to(device)
    bound = corners.to(device), barycentric.to(device), None
    calls = [
        [lambda way=way: pose_gaussians(canonical, motion, moved, *bound, backend=way)]
        for way in ("auto", "torch")
    ]
    yield Case("gaussian_pose", f"{sizes.posed // 1000} k", calls[0], calls[1], "torch")


SECTIONS = {
    "uv_splat": splat_cases,
    "pyramid": pyramid_cases,
    "gaussians": gaussian_cases,
    "mesh": mesh_cases,
    "pose": pose_cases,
}
