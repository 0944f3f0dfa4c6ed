"""From a head, its parameters and the views to the fitted offsets: the room's one entry for callers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from omega_cli.deform_flame.config import DeformFlameConfig
from omega_cli.deform_flame.linear import SparseMap, Surface
from omega_cli.deform_flame.objective import (
    JAW_LINE,
    JAW_WEIGHT,
    Lambdas,
    Landmarks,
    Problem,
    mirror_landmarks,
    rest_planes,
)
from omega_cli.deform_flame.posing import posing
from omega_cli.deform_flame.semantics import read_semantics
from omega_cli.deform_flame.solve import Fit, fit
from omega_cli.deform_flame.views import prepare_view, stack_views
from omega_cli.geometry.camera import Camera
from omega_cli.geometry.mesh import uniform_laplacian
from omega_cli.head.model import HeadModel
from omega_cli.head.params import HeadParams

LANDMARKS = "ibug68"


def views_frame(params: HeadParams) -> HeadParams:
    """The photo's parameters in the views' world: no head rotation, neck or translation. T = 1.

    Identity, expression, jaw, eyes and scale stay: the views show the photo's expression.
    """
    zero = torch.zeros_like(params.transl)
    return params.replace(global_orient=zero, neck_pose=zero, transl=zero)


def build_problem(
    model: HeadModel,
    params: HeadParams,
    config: DeformFlameConfig,
    *,
    points: Tensor | None = None,  # [68, 2] px in the photo
    scores: Tensor | None = None,  # [68] in [0, 1]
    photo: Camera | None = None,
) -> Problem:
    """Everything fixed during the fit. params: T = 1, as tracked in the photo.

    Without points and photo there are no landmark terms.
    """
    params = params.to(model.v_template.device)
    canonical = model.identity(params.betas)
    laplacian = SparseMap(uniform_laplacian(model.faces, len(canonical)))
    still = views_frame(params)
    landmarks = None
    if points is not None and photo is not None and LANDMARKS in model.landmarks:
        embedding = model.landmarks[LANDMARKS]
        weight = embedding.valid.to(canonical)
        weight[:JAW_LINE] *= JAW_WEIGHT
        weight = weight if scores is None else weight * scores.to(weight)
        corners = model.faces[embedding.face_index]
        on_mesh = Surface(corners, embedding.barycentric.to(canonical), embedding.face_index)
        landmarks = Landmarks(
            on_mesh=on_mesh,
            points=points.to(canonical),
            weight=weight / weight.sum().clamp_min(1e-6),
            partner=torch.tensor(mirror_landmarks(), device=canonical.device),
            mirror=canonical.new_tensor([-1.0, 1.0, 1.0]),
            camera=photo.to(canonical.device),
        )
    return Problem(
        canonical=canonical,
        faces=model.faces,
        planes=rest_planes(canonical, model.faces),
        laplacian=laplacian,
        rest_delta=laplacian(canonical),
        semantics=read_semantics(model, canonical, config.semantic_laplacian, config.max_offset),
        to_views=posing(model, still),
        to_photo=posing(model, params),
        landmarks=landmarks,
    )


def deform(
    model: HeadModel,
    params: HeadParams,
    views: Sequence[tuple[Camera, Tensor, Tensor]],  # camera, normal [3, H, W] unit, mask [1, H, W]
    config: DeformFlameConfig,
    *,
    points: Tensor | None = None,
    scores: Tensor | None = None,
    photo: Camera | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> Fit:
    """Canonical offsets ΔV that make the head agree with the views (paper 3.2).

    points [68, 2] px and scores [68]: the landmarks in the photo, seen by camera `photo`. All of it runs on
    the model's device.
    """
    size = min([config.map_size, *(mask.shape[-1] for _, _, mask in views)])
    lambdas = Lambdas(
        nml=config.lambda_nml,
        sil=config.lambda_sil,
        lmk=config.lambda_lmk,
        sym=config.lambda_sym,
        lap=config.lambda_lap,
        par=config.lambda_par,
    )
    with _one_thread():
        problem = build_problem(model, params, config, points=points, scores=scores, photo=photo)
        device = problem.canonical.device
        prepared = [
            prepare_view(camera, normal.to(device), mask.to(device), size) for camera, normal, mask in views
        ]
        return fit(
            problem, stack_views(prepared), lambdas,
            iterations=config.iterations, max_offset=config.max_offset, on_step=on_step,
        )  # fmt: skip


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """A step is hundreds of small operations: on a CPU a second thread gains nothing (2.5 s with one, 2.5
    to 3.0 s with two) and waits for its turn at each of them where the machine has other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
