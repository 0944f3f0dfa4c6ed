"""The analytic base of mv-diffuse: the portrait lifted onto the fitted head and seen from six sides."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.camera import Camera
from ..geometry.raster import interpolate, rasterize
from ..head.model import HeadModel
from ..head.params import HeadParams
from . import texture as texture_maths
from .inflate import Outline, inflate
from .photo import Photo, sample
from .texture import CLOTH, EARS, HAIR_LIKE, NECK, Surface, is_in, mirror_of
from .views import VIEW_CENTRE

# Cosines between which a view goes over from the texture to the photo's own pixels. Ours: the texture is
# finer than the photo, so this matters for eyes and lashes, which move on the texture.
STRAIGHT = (0.35, 0.6)


@dataclass(frozen=True)
class View:
    """One canonical view: rgb [3, H, W] on white, normal [3, H, W] world space, mask [1, H, W].

    trust [1, H, W] in [0, 1]: how far a pixel is the photo's own, seen straight; depth [1, H, W]: m towards
    the camera from the window's centre, 0 where there is no surface. What the view network is told.
    """

    camera: Camera
    rgb: Tensor
    normal: Tensor
    mask: Tensor
    trust: Tensor
    depth: Tensor

    def to(self, device: torch.device | str) -> View:
        return View(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True)
class Lift:
    """The six views with what they were made of: displacement [V, 3] m and texture [3, T, T]."""

    views: list[View]
    displacement: Tensor
    texture: Tensor


def hair_facts(
    model: HeadModel,
    vertices: Tensor,  # [V, 3] m, bare head
    camera: Camera,
    labels: Tensor,  # [H, W]
    alpha: Tensor,  # [H, W]
) -> tuple[float, tuple[bool, bool]]:
    """Height of the hair's lower end (m, head frame) and whether the (left, right) ears are covered.

    Read from the parsing: the hair's pixels are taken to lie at the depth of the skull.
    """
    pixels, _ = camera.project(vertices)
    hair = is_in(labels, HAIR_LIKE) & (alpha > 0.5)
    ear = labels == EARS
    height, width = hair.shape
    y, x = torch.nonzero(hair, as_tuple=True)
    bottom = math.inf
    if len(y) > 60:
        depth = camera.to_camera(torch.zeros(3))[2].expand(len(y))
        bottom = float(camera.unproject(torch.stack([x, y], -1) + 0.5, depth)[:, 1].quantile(0.06))

    def covered(name: str) -> bool:
        p = pixels[model.regions[name]]
        low, high = p.min(0).values.floor().long(), p.max(0).values.ceil().long()
        x0, x1 = int(low[0].clamp(0, width - 1)), int(high[0].clamp(1, width))
        y0, y1 = int(low[1].clamp(0, height - 1)), int(high[1].clamp(1, height))
        if x1 <= x0 or y1 <= y0:
            return False
        box_hair, box_ear = hair[y0:y1, x0:x1].float().mean(), ear[y0:y1, x0:x1].float().mean()
        return bool(box_hair > 0.45 and box_ear < 0.05)

    return bottom, (covered("left_ear"), covered("right_ear"))


def head_area(alpha: Tensor, labels: Tensor) -> Tensor:  # [H, W], [H, W] -> [H, W] bool
    """The head's pixels, with hair and hat, without neck and cloth."""
    return (alpha > 0.5) & ~is_in(labels, (0, CLOTH, NECK))


def lift_views(
    model: HeadModel,
    params: HeadParams,  # T = 1, head frame (see head_frame)
    camera: Camera,  # the photo's, in the head frame
    rgba: Tensor,  # [4, H, W]
    labels: Tensor,  # [H, W]
    photo_area: Tensor,  # [H, W] bool: False beyond the photo's edge
    cameras: list[Camera],
    texture_size: int,
    do_inflate: bool,
    do_mirror: bool,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> Lift:
    """Six views of the head that the photo shows.

    Everything is given on the CPU, where the mesh is inflated; its systems are solved and the rest is done on
    `device`, and what comes out lies there. `generator` is a CPU one: a seed means the same everywhere.
    """
    mirror = mirror_of(model)
    bare = model(params).vertices[0]
    bottom, hidden = hair_facts(model, bare, camera, labels, rgba[3])
    displacement = torch.zeros_like(bare)
    if do_inflate:
        outline = Outline(
            head=head_area(rgba[3], labels).numpy(),
            hair=((rgba[3] > 0.5) & is_in(labels, HAIR_LIKE)).numpy(),
            photo=photo_area.numpy(),
        )
        regions = {name: region.numpy() for name, region in model.regions.items()}
        moved = inflate(
            bare.numpy().astype(np.float64),
            model.faces,
            regions,
            mirror.numpy(),
            camera,
            outline,
            bottom,
            hidden,
            device=device,
        )
        displacement = torch.from_numpy(moved).float()
    model, camera = model.to(device), camera.to(device)
    displacement, rgba, labels = displacement.to(device), rgba.to(device), labels.to(device)
    surface = Surface.of(model, bare.to(device) + displacement, mirror.to(device))
    photo = Photo(rgba[:3], rgba[3:], labels, rasterize(surface.vertices, model.faces, camera).depth, camera)
    texture = texture_maths.build_texture(surface, photo, texture_size, do_mirror, bottom, hidden, generator)
    return Lift([render_view(surface, photo, texture, c.to(device)) for c in cameras], displacement, texture)


def render_view(surface: Surface, photo: Photo, texture: Tensor, camera: Camera) -> View:
    """Colour, normal and soft mask of one view; where the photo saw the surface, its own pixels."""
    model = surface.model
    fragments = rasterize(surface.vertices, model.faces, camera)
    hit = fragments.face_index >= 0
    # At this pixel the photo shows what it shows: eyes and lashes are judged where they become texture.
    flags = surface.flags * surface.flags.new_tensor([1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0])
    packed = torch.cat([surface.normals, surface.vertices, flags], 1)
    at = interpolate(fragments, model.faces, packed)[hit]
    normal = F.normalize(at[:, :3], dim=-1)
    uv = interpolate(fragments, model.uv_faces, model.uvs)[hit]
    grid = (uv * 2 - 1)[None, None]
    base = F.grid_sample(texture[None], grid, padding_mode="border", align_corners=False)[0, :, 0]

    seen = sample(photo, at[:, 3:6], normal)
    straight = ((seen.facing - STRAIGHT[0]) / (STRAIGHT[1] - STRAIGHT[0])).clamp(0, 1)
    trust = seen.weight * straight * texture_maths.permitted(seen, at[:, 6:])
    rgb = base.new_zeros(3, camera.height, camera.width)
    rgb[:, hit] = trust * seen.rgb.T + (1 - trust) * base

    mask = coverage(surface.vertices, model.faces, camera)
    rgb = spread_rim(rgb, hit) * mask + 1 - mask
    encoded = torch.ones_like(rgb)
    encoded[:, hit] = normal.T
    own = torch.zeros_like(mask)
    own[0, hit] = trust
    middle = camera.to_camera(VIEW_CENTRE.to(camera.viewmat))[2]
    depth = torch.where(hit, middle - fragments.depth, 0.0)[None]
    return View(camera, rgb.clamp(0, 1), encoded, mask, own, depth)


def spread_rim(rgb: Tensor, hit: Tensor) -> Tensor:  # [3, H, W], [H, W] -> [3, H, W]
    """Colour for the rim pixels whose centre the surface misses: the mean of their covered neighbours."""
    weight = hit[None].float()
    near = F.avg_pool2d((rgb * weight)[None], 3, 1, 1)[0] / F.avg_pool2d(weight[None], 3, 1, 1)[0].clamp_min(
        1e-6
    )
    return torch.where(hit[None], rgb, near)


def coverage(vertices: Tensor, faces: Tensor, camera: Camera) -> Tensor:  # [1, H, W]
    """Anti-aliased silhouette: four samples a pixel."""
    fine = rasterize(vertices, faces, camera.resized(2 * camera.width, 2 * camera.height))
    return F.avg_pool2d((fine.face_index >= 0).float()[None, None], 2)[0]
