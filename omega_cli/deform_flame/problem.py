"""From a head, its parameters and the views to the fitted offsets: the room's one entry for callers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from omega_cli.deform_flame.config import DeformFlameConfig
from omega_cli.deform_flame.objective import JAW_LINE, JAW_WEIGHT, Lambdas, Landmarks, Problem
from omega_cli.deform_flame.observe import Surface, prepare_view
from omega_cli.deform_flame.semantics import read_semantics
from omega_cli.deform_flame.solve import Fit, fit
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
    canonical = model.identity(params.betas)
    laplacian = uniform_laplacian(model.faces, len(canonical))
    still = views_frame(params)
    landmarks = None
    if points is not None and photo is not None and LANDMARKS in model.landmarks:
        embedding = model.landmarks[LANDMARKS]
        weight = embedding.valid.to(canonical)
        weight[:JAW_LINE] *= JAW_WEIGHT
        weight = weight if scores is None else weight * scores.to(weight)
        corners = model.faces[embedding.face_index]
        on_mesh = Surface(corners, embedding.barycentric.to(canonical), embedding.face_index)
        landmarks = Landmarks(on_mesh, points.to(canonical), weight / weight.sum().clamp_min(1e-6), photo)
    return Problem(
        canonical=canonical,
        faces=model.faces,
        laplacian=laplacian,
        rest_delta=laplacian @ canonical,
        semantics=read_semantics(model, canonical, config.semantic_laplacian, config.max_offset),
        to_views=lambda vertices: model.animate(vertices, still).vertices[0],
        to_photo=lambda vertices: model.animate(vertices, params).vertices[0],
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

    points [68, 2] px and scores [68]: the landmarks in the photo, seen by camera `photo`.
    """
    problem = build_problem(model, params, config, points=points, scores=scores, photo=photo)
    prepared = [
        prepare_view(camera, normal, mask, min(config.map_size, mask.shape[-1]))
        for camera, normal, mask in views
    ]
    lambdas = Lambdas(
        nml=config.lambda_nml,
        sil=config.lambda_sil,
        lmk=config.lambda_lmk,
        sym=config.lambda_sym,
        lap=config.lambda_lap,
        par=config.lambda_par,
    )
    return fit(
        problem, prepared, lambdas,
        iterations=config.iterations, max_offset=config.max_offset, on_step=on_step,
    )  # fmt: skip
