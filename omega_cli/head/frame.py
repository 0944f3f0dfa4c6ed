"""The head's own frame: where a head rests when its rotation and place are given to the camera instead."""

from __future__ import annotations

import torch

from omega_cli.geometry.camera import Camera
from omega_cli.head.model import HeadModel
from omega_cli.head.params import HeadParams


def head_frame(model: HeadModel, params: HeadParams, camera: Camera) -> tuple[HeadParams, Camera]:
    """Remove the head's rotation and place: the head at rest in its own frame, the camera moved instead.

    The photo's expression, jaw and eyes stay. Where the neck was bent, the skull's own motion is what
    the camera keeps.
    """
    posed = model(params)
    transform = posed.transforms[0, 1]  # the neck joint carries the skull: root and neck rotation together
    zero = torch.zeros_like(params.transl)
    rest = params.replace(global_orient=zero, neck_pose=zero, transl=zero)
    at_rest = model(rest).transforms[0, 1]
    world = transform @ torch.linalg.inv(at_rest)
    viewmat = camera.viewmat @ world
    scale = torch.linalg.det(viewmat[:3, :3]).clamp_min(1e-9) ** (1 / 3)
    viewmat = torch.cat([viewmat[:3] / scale, viewmat[3:]])
    return rest, Camera(camera.K, viewmat, camera.width, camera.height, camera.model, camera.id)
