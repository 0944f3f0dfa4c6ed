"""Random synthetic portraits of the head, good enough for a face detector: brows, light, background."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from omega_cli.geometry.camera import Camera, perspective
from omega_cli.geometry.mesh import vertex_normals
from omega_cli.geometry.raster import interpolate, rasterize
from omega_cli.head.model import HeadModel

SIZE = 512
SKIN_TONES = torch.tensor(
    [[1.12, 1.10, 1.08], [1.0, 1.0, 1.0], [0.86, 0.80, 0.76], [0.62, 0.54, 0.50], [0.48, 0.40, 0.37]]
)
# Expressions that part what touches at rest: how often, and the range drawn.
PLAY = {
    "jawOpen": (0.8, 0.12, 0.45), "mouthSmileLeft": (0.4, 0.0, 0.4), "mouthSmileRight": (0.4, 0.0, 0.4),
    "eyeBlinkLeft": (0.3, 0.0, 0.25), "eyeBlinkRight": (0.3, 0.0, 0.25), "eyeWideLeft": (0.5, 0.0, 0.4),
    "eyeWideRight": (0.5, 0.0, 0.4), "browInnerUp": (0.4, 0.0, 0.4),
}  # fmt: skip


@dataclass(frozen=True)
class Portrait:
    """image [H, W, 3] uint8; vertices [V, 3] m; camera."""

    image: Tensor
    vertices: Tensor
    camera: Camera


def brow_amount(rest: Tensor, eye: Tensor) -> Tensor:
    """[...] in [0, 1]: how much brow covers a template point [..., 3] (m). eye: left eye's centre [3]."""
    x, y = rest[..., 0].abs() - eye[0], rest[..., 1] - eye[1]
    middle = 0.0190 + 0.0030 * (1 - ((x - 0.006) / 0.018) ** 2)
    half = 0.0044 * (1 - ((x - 0.004) / 0.026) ** 2).clamp_min(0)
    inside = (1 - (y - middle).abs() / half.clamp_min(1e-5)).clamp(0, 1)
    return inside.clamp(0, 0.4) / 0.4 * (rest[..., 2] > eye[2] - 0.005)


def random_portrait(model: HeadModel, generator: torch.Generator) -> Portrait:
    """One random adult, mild pose and expression, seen by a pinhole camera at 0.7 to 1.5 m."""

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    params = model.zeros()
    expression = params.expression.clone()
    for name, (often, low, high) in PLAY.items():
        if uniform(0, 1) < often:
            expression[0, model.expression_names.index(name)] = uniform(low, high)
    pose = torch.tensor([[uniform(-0.17, 0.17), 0.0, uniform(-0.1, 0.1)]])
    params = params.replace(
        betas=0.9 * torch.randn(model.S, generator=generator), expression=expression, global_orient=pose
    )
    vertices = model(params).vertices[0]
    camera = perspective(
        uniform(-28, 28), SIZE, uniform(0.15, 0.2), uniform(0.7, 1.5),
        torch.tensor([uniform(-0.02, 0.02), uniform(-0.02, 0.02), 0.03]), uniform(-6, 8),
    )  # fmt: skip
    fragments = rasterize(vertices, model.faces, camera)
    seen = fragments.face_index >= 0
    assert model.albedo is not None
    skin = model.regions["skin"].float()[:, None]
    tone = SKIN_TONES[int(uniform(0, len(SKIN_TONES)))]
    albedo = model.albedo * (skin * tone + 1 - skin)
    rest = interpolate(fragments, model.faces, model.v_template)
    is_skin = interpolate(fragments, model.faces, model.regions["face"].float()[:, None])[..., 0]
    eye = (model.J_regressor @ model.v_template)[3]
    colour = interpolate(fragments, model.faces, albedo)
    brow = (brow_amount(rest, eye) * (is_skin > 0.5))[..., None] * uniform(0.6, 0.95)
    colour = colour * (1 - brow) + brow * torch.tensor([0.16, 0.12, 0.10])
    normal = torch.nn.functional.normalize(
        interpolate(fragments, model.faces, vertex_normals(vertices, model.faces)), dim=-1
    )
    towards = torch.tensor([uniform(-0.6, 0.6), -uniform(0.1, 0.8), -1.0])  # in camera axes
    light = camera.viewmat[:3, :3].T @ towards
    shade = (normal @ torch.nn.functional.normalize(light, dim=0)).clamp_min(0)
    ambient = uniform(0.3, 0.55)
    shaded = colour * (ambient + (1 - ambient) * shade)[..., None]
    background = torch.tensor([uniform(0.2, 0.9) for _ in range(3)]).expand(SIZE, SIZE, 3)
    image = torch.where(seen[..., None], shaded, background)
    return Portrait((image.clamp(0, 1) * 255).round().to(torch.uint8), vertices, camera)
