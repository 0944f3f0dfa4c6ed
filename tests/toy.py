"""The toy avatar: the real open head, small real pictures of it, written through the real codecs.

`make_toy_avatar` writes source/ and views/ as a person might drop them in; every later stage runs for
real. Its colours are a smooth function of where a point lies on the resting head, so that whatever the
stages make of it can be compared with the truth from any side.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from omega_cli.avatar import codecs, layout, record
from omega_cli.avatar.layout import Avatar
from omega_cli.geometry.camera import Camera, orthographic
from omega_cli.geometry.mesh import vertex_normals
from omega_cli.geometry.raster import interpolate, rasterize
from omega_cli.head.assets import load_head
from omega_cli.head.model import HeadModel
from omega_cli.head.params import HeadParams

VIEW_SIZE = 64
SOURCE_SIZE = 128
SUPERSAMPLE = 4
SKIN, HAIR, NECK, BACKGROUND = 1, 14, 11, 0  # layout.PARSING_LABELS


@functools.cache
def head() -> HeadModel:
    return load_head()


def toy_params(turn_deg: float = 8.0) -> HeadParams:
    """Somebody with a slight smile, turned a little, one metre before the source camera."""
    model = head()
    params = model.zeros()
    generator = torch.Generator().manual_seed(5)
    expression = params.expression.clone()
    for name, weight in (("mouthSmileLeft", 0.3), ("mouthSmileRight", 0.3), ("jawOpen", 0.1)):
        expression[0, model.expression_names.index(name)] = weight
    return params.replace(
        betas=0.5 * torch.randn(model.S, generator=generator),
        expression=expression,
        global_orient=torch.tensor([[0.05, turn_deg * torch.pi / 180, 0.0]]),
        transl=torch.tensor([[0.0, -0.02, -1.0]]),
    )


def true_color(resting: Tensor) -> Tensor:  # [n, 3] m -> [n, 3]
    """Smooth colours of the resting surface, different everywhere at the centimetre scale."""
    x, y, z = resting.unbind(-1)
    return torch.stack(
        [
            0.55 + 0.25 * torch.sin(40 * x + 9),
            0.5 + 0.25 * torch.sin(35 * y),
            0.5 + 0.25 * torch.cos(38 * z),
        ],
        -1,
    )


@dataclass(frozen=True)
class Picture:
    """rgb [3, H, W] over black, alpha [H, W], normal [3, H, W] world, labels [H, W]."""

    rgb: Tensor
    alpha: Tensor
    normal: Tensor
    labels: Tensor


def picture(vertices: Tensor, resting: Tensor, camera: Camera) -> Picture:
    """Anti-aliased truth of the toy head, posed vertices [V, 3], seen by `camera`."""
    model = head()
    big = camera.resized(camera.width * SUPERSAMPLE, camera.height * SUPERSAMPLE)
    fragments = rasterize(vertices, model.faces, big)
    label = torch.full((len(resting),), float(SKIN))
    label[model.regions["scalp"]] = HAIR
    label[model.regions["neck"]] = NECK
    values = torch.cat(
        [true_color(resting), vertex_normals(vertices, model.faces), torch.ones(len(resting), 1)], 1
    )
    image = interpolate(fragments, model.faces, values).permute(2, 0, 1)
    small = torch.nn.functional.avg_pool2d(image[None], SUPERSAMPLE)[0]
    first = model.faces[fragments.face_index.clamp_min(0), 0]
    labels = torch.where(fragments.face_index >= 0, label[first], torch.tensor(float(BACKGROUND)))
    labels = labels[SUPERSAMPLE // 2 :: SUPERSAMPLE, SUPERSAMPLE // 2 :: SUPERSAMPLE].long()
    return Picture(small[:3], small[6], torch.nn.functional.normalize(small[3:6], dim=0), labels)


def source_camera() -> Camera:
    """track's convention: 0.40 m at 1 m fill the picture; the head is placed by its parameters."""
    focal = SOURCE_SIZE / 0.40
    K = torch.tensor([[focal, 0, SOURCE_SIZE / 2], [0, focal, SOURCE_SIZE / 2], [0, 0, 1.0]])
    return Camera(K, torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0])), SOURCE_SIZE, SOURCE_SIZE, id="source")


def make_toy_avatar(root: Path) -> Avatar:
    """Write source/ and views/ of the toy at `root`; `root.with_suffix('.png')` is its "photo"."""
    model, params = head(), toy_params()
    resting = model.identity(params.betas)
    camera = source_camera()
    photo = picture(model.forward(params).vertices[0], resting, camera)
    rgba = torch.cat([photo.rgb / photo.alpha.clamp_min(1e-3), photo.alpha[None]])
    photo_path = root.with_suffix(".png")
    codecs.save_image(photo_path, rgba)
    avatar = record.create_avatar(root, photo_path)
    codecs.save_json(avatar.document, record.read_avatar(avatar))
    source = avatar.source
    codecs.save_image(source / layout.SOURCE_IMAGE, rgba)
    codecs.save_labels(source / layout.SOURCE_PARSING, photo.labels)
    codecs.save_cameras(source / layout.CAMERAS, [camera])
    codecs.save_params(source / layout.FLAME, params, head=model)
    vertices = model.forward(params).vertices
    points = camera.project(model.landmark_points(vertices, "ibug68")[0])[0]
    codecs.save_arrays(
        source / layout.SOURCE_LANDMARKS,
        points=points,
        scores=torch.ones(68),
        points478=camera.project(model.landmark_points(vertices, "mediapipe478")[0])[0],
        blendshapes=torch.zeros(52),
    )
    still = params.replace(global_orient=torch.zeros(1, 3), transl=torch.zeros(1, 3))
    posed = model.forward(still).vertices[0]
    centre = (posed.amin(0) + posed.amax(0)) / 2
    half = float((posed - centre).abs().max()) * 1.1
    cameras = [orthographic(float(a), VIEW_SIZE, half, centre, id=a) for a in layout.AZIMUTHS]
    for view in cameras:
        seen = picture(posed, resting, view)
        codecs.save_image(avatar.views / layout.view_rgb(view.id), seen.rgb / seen.alpha.clamp_min(1e-3))
        codecs.save_image(avatar.views / layout.view_normal(view.id), (seen.normal + 1) / 2)
        codecs.save_image(avatar.views / layout.view_mask(view.id), seen.alpha)
    codecs.save_cameras(avatar.views / layout.CAMERAS, cameras)
    return Avatar(root)
