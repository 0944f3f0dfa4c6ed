"""pytorch3d's rasteriser behind our Fragments, for comparison; an optional package, imported lazily.

pytorch3d looks along +z with x to the left and y up, and in screen space puts pixel centres at +0.5,
as we do: the border is crossed by handing it NDC vertices made from our own clip coordinates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from omega_cli.errors import OmegaError
from omega_cli.geometry.camera import Camera
from omega_cli.kernels.mesh_raster import NEAR, Fragments


def rasterize(vertices: Tensor, faces: Tensor, camera: Camera) -> Fragments:
    """As `geometry.raster.rasterize`. Raises OmegaError where pytorch3d is not installed."""
    try:
        from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
        from pytorch3d.structures import Meshes
    except ImportError as error:
        raise OmegaError(
            f"the pytorch3d rasteriser cannot be imported ({error})",
            "Install pytorch3d from its sources, or use the native backend.",
        ) from error
    from omega_cli.geometry.raster import clip_vertices

    clip = clip_vertices(vertices, camera)
    H, W = camera.height, camera.width
    drawable = (clip[:, 2] > NEAR)[faces].all(-1).nonzero()[:, 0]
    w = torch.where(clip[:, 2] > NEAR, clip[:, 3], 1.0)
    # NDC: the shorter side spans [-1, 1], +x left, +y up.
    half = min(H, W) / 2
    ndc = torch.stack([(W / 2 - clip[:, 0] / w) / half, (H / 2 - clip[:, 1] / w) / half, clip[:, 2]], -1)
    meshes = Meshes([ndc], [faces[drawable]])
    index, depth, barycentric, _ = rasterize_meshes(
        meshes,
        image_size=(H, W),
        blur_radius=0.0,
        faces_per_pixel=1,
        perspective_correct=camera.model == "pinhole",
        cull_backfaces=False,
    )
    index, depth, barycentric = index[0, ..., 0], depth[0, ..., 0], barycentric[0, ..., 0, :]
    seen = index >= 0
    return Fragments(
        torch.where(seen, drawable[index.clamp_min(0)], -1),
        torch.where(seen[..., None], barycentric, 0.0),
        torch.where(seen, depth, float("inf")),
    )
