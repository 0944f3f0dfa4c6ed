"""One photo tracked: crop, matte, parsing, landmarks and the head fitted to them (paper 3.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from omega_cli.errors import OmegaError
from omega_cli.geometry.camera import Camera
from omega_cli.head.model import HeadModel
from omega_cli.head.params import HeadParams
from omega_cli.track import crop as crops
from omega_cli.track import matte as mattes
from omega_cli.track import parsing as labels
from omega_cli.track.identity import HeadFitter
from omega_cli.track.image_io import Photo
from omega_cli.track.landmarks import Face, Landmarker, find_faces, ibug_points
from omega_cli.track.observe import crop_camera
from omega_cli.track.perspective import chooser

MIN_FACE = 64  # px
MAX_YAW_DEG = 60.0
_EYE_CORNERS = (33, 133, 362, 263)  # of the 478 points
MIN_FACE_SHARE = 0.3  # of the face's outline that the parser must call face: less is no face  # ours


@dataclass(frozen=True)
class TrackedImage:
    """The aligned input of one person, all in the 512 px crop.

    image [4, 512, 512] straight RGBA in [0, 1]; label_map [512, 512] (see avatar/layout.PARSING_LABELS);
    points478 [478, 2] and points68 [68, 2] px with scores68 [68]; blendshapes [52] in the order of
    `track.landmarks.SCORES`; params (T = 1); camera; overlay [3, 512, 1024]; projected [L, 2] px: where
    the fitted head puts the landmarks; crop: scale and shift from photo px; notes for the user; metrics.
    """

    image: Tensor
    label_map: Tensor
    points478: np.ndarray
    points68: np.ndarray
    scores68: np.ndarray
    blendshapes: np.ndarray
    params: HeadParams
    camera: Camera
    projected: np.ndarray
    crop: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Networks:
    """The three networks of a photo; `saliency` is a cv2.dnn net, `aligner` a 68-point backend or None."""

    landmarker: Landmarker
    parser: labels.Parser
    saliency: Any
    aligner: Any = None


def choose_face(faces: list[Face], index: int, name: str) -> tuple[Face, list[str]]:
    """The face to track and what to tell the user. Raises OmegaError for none, too small, too far turned."""
    if not faces:
        raise OmegaError(
            f"No face was found in {name}.",
            "Use a photo that shows one face from the front, sharp, lit, at least 64 px high and upright.",
        )
    if index >= len(faces):
        s = "" if len(faces) == 1 else "s"
        raise OmegaError(
            f"--face {index} was asked for, but {name} shows {len(faces)} face{s}.",
            f"Faces are numbered by size from 0 (largest) to {len(faces) - 1}.",
        )
    face, notes = faces[index], []
    if len(faces) > 1:
        which = "the largest" if index == 0 else f"number {index} by size"
        notes.append(
            f"{len(faces)} faces in {name}: {which} is taken (--face 0 to {len(faces) - 1} chooses)."
        )
    if face.size < MIN_FACE:
        raise OmegaError(
            f"The face in {name} is only {face.size:.0f} px high; at least {MIN_FACE} are needed.",
            "Use a larger picture or crop of the same person.",
        )
    _require_frontal(face.yaw_deg, MAX_YAW_DEG, name)
    return face, notes


def track_photo(
    photo: Photo, model: HeadModel, networks: Networks, *, face_index: int = 0, name: str = "the picture",
    lens: Literal["auto", "usual", "found"] = "usual",
) -> TrackedImage:  # fmt: skip
    """Track one face of a photo. lens: the camera's distance is the usual one; or (auto, found) what the
    photo's EXIF tells, and without that the usual one (auto) or what the landmarks tell (found).

    Raises OmegaError when there is no face that can be used.
    """
    faces = find_faces(photo.rgb, networks.landmarker, at_least=face_index + 1)
    found, notes = choose_face(faces, face_index, name)
    crop, probabilities = parsed_crop(photo, found, networks.parser)
    salient = mattes.saliency(crop.rgb, networks.saliency)
    face = found.moved(crop.scale, crop.shift)
    eyes = float(face.points[list(_EYE_CORNERS), 1].mean())
    probabilities = mattes.doubted_hair(probabilities, salient, eyes)
    label_map = probabilities.argmax(0)
    _require_face(label_map, face, name)

    box, centre = face.box, face.centre
    alpha = None
    if photo.alpha is not None:
        alpha = mattes.given_matte(crops.crop_like(photo.alpha, crop), centre, crop.photo)
    if alpha is None or mattes.holds_background(alpha, probabilities):
        solved = mattes.solve_matte(crop.rgb, probabilities, salient, box, crop.photo)
        alpha = solved if alpha is None else np.minimum(alpha, solved)
    colour = mattes.clean_foreground(crop.rgb, alpha)
    label_map = crops.tidy_labels(label_map, alpha)

    points68, scores68 = ibug_points(face.points)
    fitter, part = HeadFitter(model), (label_map, alpha)
    focal = photo.focal_px * crop.scale if photo.focal_px and lens != "usual" else None
    choose = chooser(focal) if lens == "found" or focal is not None else None
    if networks.aligner is not None:
        points68, scores68 = networks.aligner(crop.rgb, box)
        fit = fitter.fit_points68(points68, scores68, face, part, choose)
    else:
        fit = fitter.fit([face], [part], choose=choose)
    told_by = "usual" if choose is None else "landmarks" if focal is None else "exif"
    if told_by == "exif":
        notes.append(f"The camera's focal length is taken from the EXIF of {name}.")
    params = fitter.params(fit.betas, fit.states)
    _require_frontal(fit.yaw_deg, MAX_YAW_DEG + 5, name)  # two measures of one angle: no hair's breadth
    rgba = np.concatenate([colour.astype(np.float32) / 255, alpha[..., None]], axis=2)
    return TrackedImage(
        image=torch.from_numpy(rgba).permute(2, 0, 1).contiguous(),
        label_map=torch.from_numpy(label_map.astype(np.int64)),
        points478=face.points,
        points68=points68,
        scores68=scores68,
        blendshapes=face.scores,
        params=params,
        camera=crop_camera(fit.focal),
        projected=fit.projected[0],
        crop={
            "scale": crop.scale,
            "shift": list(crop.shift),
            "span": crop.span,
            "photo_size": [photo.rgb.shape[1], photo.rgb.shape[0]],
            "full_size": list(photo.full_size),
            "face": face_index,
            "faces": len(faces),
            "face_box": [round(v, 2) for v in found.box],
        },
        notes=notes,
        metrics={
            "reprojection_px": round(fit.error_px, 3),
            "reprojection_percent": round(100 * fit.error_px / face.size, 3),
            "face_px": round(found.size, 1),
            "yaw_deg": round(fit.yaw_deg, 1),
            "focal_px": round(fit.focal, 1),
            "focal_from": told_by,
            "betas_abs_max": round(float(np.abs(fit.betas).max(initial=0)), 2),
            "betas_rms": round(math.sqrt(float((fit.betas**2).mean())), 3),
        },
    )


def parsed_crop(photo: Photo, face: Face, parser: labels.Parser) -> tuple[crops.Crop, np.ndarray]:
    """The crop and its label probabilities [LABELS, 512, 512]; wider where hair would be cut off."""
    for span in (crops.SPAN, *crops.WIDER):
        crop = crops.cut(photo.rgb, face, span)
        probabilities = parser(torch.from_numpy(crop.rgb).permute(2, 0, 1).float() / 255).numpy()
        if not crops.hair_is_cut_off(probabilities.argmax(0), crop.photo):
            break
    return crop, probabilities


def _require_frontal(yaw_deg: float, limit: float, name: str) -> None:
    if abs(yaw_deg) > limit:
        raise OmegaError(
            f"The face in {name} is turned {abs(yaw_deg):.0f}° to the side.",
            f"At most {MAX_YAW_DEG:.0f}° work: use a photo in which both eyes are seen.",
        )


def _require_face(label_map: np.ndarray, face: Face, name: str) -> None:
    """The landmarker sees faces in clouds; the parser, which learned something else, must agree."""
    import cv2

    outline = np.zeros(label_map.shape, np.uint8)
    cv2.fillConvexPoly(outline, cv2.convexHull(face.points.astype(np.float32)).astype(np.int32), 1)
    share = np.isin(label_map[outline > 0], labels.FACE_LABELS).mean()
    if share < MIN_FACE_SHARE:
        raise OmegaError(
            f"No face was found in {name} (something like one, but without skin, eyes and mouth).",
            "Use a photo that shows one face from the front, sharp and lit.",
        )
