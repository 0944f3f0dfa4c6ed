"""A generated person photographed and tracked: what the pipeline would know of them, and what is true."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.data.studio import degrade
from omega_cli.data.studio.light import Light, sample_light
from omega_cli.data.studio.look import Draw
from omega_cli.data.studio.scene import Sample
from omega_cli.geometry.camera import Camera, perspective
from omega_cli.geometry.similarity import Similarity, similarity
from omega_cli.head.frame import head_frame
from omega_cli.head.model import HeadModel
from omega_cli.head.params import HeadParams
from omega_cli.mv_diffuse.lift import Lift, lift_views
from omega_cli.mv_diffuse.texture import CLOTH, HAIR, NECK
from omega_cli.mv_diffuse.views import canonical_cameras
from omega_cli.track import crop as crops
from omega_cli.track.identity import HeadFitter
from omega_cli.track.landmarks import SCORES, Face
from omega_cli.track.observe import SIZE, crop_camera
from omega_cli.track.perspective import chooser

PHOTO = 320  # px drawn of a photo; enlarged to the tracker's 512: the network sees 192 of them
LANDMARK_NOISE = (0.004, 0.006)  # of the face's size: each point's own, and what neighbours share  # ours
DISTANCE_NOISE = 0.4  # of its logarithm: landmark networks lay faces out as if seen from elsewhere  # ours
BELOW_CHIN = 0.04  # m: from there on down only what the mesh carries, and hair, is true  # ours
TEXTURE = 384  # texels of the lift's texture

Draw_ = Callable[[Sequence[Camera], Light, int], Sample]


@dataclass(frozen=True)
class Sitter:
    """A person who holds still. draw(cameras, light, size) -> Sample; points68 [68, 3] m and, where the
    person has them, points478 [478, 3] m in the world; scores [52] (`landmarks.SCORES`) of the face."""

    draw: Draw_
    points68: Tensor
    points478: Tensor | None
    scores: np.ndarray


@dataclass(frozen=True)
class Shot:
    """lift: what the pipeline makes of the photo; rgba [4, 512, 512] and labels: the photo; camera: the
    photo's, in the fitted head's frame; points [68, 3]: fitted landmarks there; truth: K views."""

    lift: Lift
    rgba: Tensor
    labels: Tensor
    camera: Camera
    points: Tensor
    truth: Sample


@dataclass(frozen=True)
class Tracked:
    """A photo as the tracker knows it: rgba [4, 512, 512], labels, area [512, 512]; params and camera, in the
    fitted head's frame; points [68, 3] m there; marks [68, 2] px: the landmarks as the tracker found them."""

    rgba: Tensor
    labels: Tensor
    area: Tensor
    params: HeadParams
    camera: Camera
    points: Tensor
    marks: Tensor


@dataclass(frozen=True)
class Taken(Tracked):
    """What is true beside it: the light, and the similarity from the person's world to the fit's."""

    light: Light
    to_fit: Similarity


class Photographer:
    """A head model prepared for tracking; makes shots of sitters."""

    def __init__(self, model: HeadModel, size: int, half_extent: float) -> None:
        self.model, self.fitter = model, HeadFitter(model)
        self.cameras = canonical_cameras(size, half_extent)
        rest = model(HeadParams.zeros(model.S, model.E)).vertices[0]
        self.rest68 = model.landmark_points(rest, "ibug68")
        self.rest478 = model.landmark_points(rest, "mediapipe478")

    def photograph(self, sitter: Sitter, generator: torch.Generator, jitter: float = 1.0) -> Taken:
        """A photo from somewhere in front, under some light, tracked.

        jitter 0 is a photo from straight ahead under any light, with exact landmarks.
        """
        draw = Draw(generator)
        light = _evened(sample_light(generator), 0.9 * draw.uniform())
        light = _all_around(light) if draw.chance(0.6) else light
        camera, face, points68 = self.aim(sitter, draw, generator, jitter)
        seen = sitter.draw([camera.resized(PHOTO, PHOTO)], light, PHOTO)
        rgb = F.interpolate(seen.rgb, (SIZE, SIZE), mode="bilinear", align_corners=False)[0]
        alpha = F.interpolate(seen.alpha, (SIZE, SIZE), mode="bilinear", align_corners=False)[0]
        labels = F.interpolate(seen.labels[:, None].float(), (SIZE, SIZE), mode="nearest")[0, 0].long()
        rgb = _softened(rgb[None], draw, generator, jitter)[0]
        alpha = _rim_noise(alpha, draw, jitter)
        area = _photo_area(alpha, float(points68[8, 1]), draw, jitter)
        alpha, labels = alpha * area, labels * area
        sparse = points68 if sitter.points478 is None else None
        pick = draw.uniform() if jitter else 0.0
        params, camera_fit = self._fit(face, sparse, labels, alpha, float(camera.K[0, 0]), pick)
        fitted = self.model.landmark_points(self.model(params).vertices[0], "ibug68")
        return Taken(
            torch.cat([rgb, alpha]), labels, area, params, camera_fit, fitted,
            torch.from_numpy(points68).float(), light, similarity(sitter.points68, fitted),
        )  # fmt: skip

    def shoot(self, sitter: Sitter, generator: torch.Generator, jitter: float = 1.0) -> Shot:
        """`photograph`, lifted, and the true six views."""
        taken = self.photograph(sitter, generator, jitter)
        lift = lift_views(
            self.model, taken.params, taken.camera, taken.rgba, taken.labels, taken.area, self.cameras,
            TEXTURE, True, True, generator,
        )  # fmt: skip
        cameras = [taken.to_fit.seen_by(camera) for camera in self.cameras]
        truth = sitter.draw(cameras, taken.light, self.cameras[0].width)
        normal = torch.einsum("ij,kjhw->kihw", taken.to_fit.R, truth.normal)
        chin = float(self.cameras[0].project(taken.points)[0][8, 1])
        truth = without_shoulders(
            dataclasses.replace(truth, normal=normal),
            torch.stack([view.mask for view in lift.views]),
            chin + BELOW_CHIN * float(self.cameras[0].K[1, 1]),
        )
        return Shot(lift, taken.rgba, taken.labels, taken.camera, taken.points, truth)

    def aim(
        self, sitter: Sitter, draw: Draw, generator: torch.Generator, jitter: float
    ) -> tuple[Camera, Face, np.ndarray]:
        """The crop's camera [512 px], the face found in it (landmarks in error), and the 68 points."""
        azimuth, elevation, roll = (
            max(-2.2, min(2.2, draw.normal(0, 1))) * spread * jitter for spread in (11.0, 6.0, 3.0)
        )
        distance = 1.2 if jitter == 0 else 0.5 * 6 ** draw.uniform()
        centre = torch.tensor([0.0, -0.02, 0.0])
        view = perspective(azimuth, SIZE, 0.22, distance, centre, elevation)
        c, s = math.cos(math.radians(roll)), math.sin(math.radians(roll))
        turned = view.viewmat.clone()
        turned[:2] = torch.tensor([[c, -s], [s, c]]) @ turned[:2]
        view = dataclasses.replace(view, viewmat=turned)
        points = sitter.points478 if sitter.points478 is not None else self._dense(sitter.points68)
        pixels, depth = view.project(points)
        flip = np.diag([1.0, -1.0, -1.0])
        wobble = _small_turn(draw, 2.0 * jitter)
        rotation = wobble @ flip @ view.viewmat[:3, :3].double().numpy()
        face = Face(pixels.double().numpy(), depth.double().numpy(), sitter.scores, rotation)
        span = crops.SPAN if draw.chance(0.4) else draw.uniform(crops.SPAN, crops.WIDER[-1])
        (x, y), side = crops.window(face, span)
        scale = SIZE / side
        K = view.K.clone()
        K[:2] *= scale
        K[0, 2] += SIZE / 2 - x * scale
        K[1, 2] += SIZE / 2 - y * scale
        view = dataclasses.replace(view, K=K)
        face = face.moved(scale, (SIZE / 2 - x * scale, SIZE / 2 - y * scale))
        points68 = view.project(sitter.points68)[0].double().numpy()
        nearer = math.exp(draw.normal(0, DISTANCE_NOISE * jitter))
        points68 = points68 + as_from_elsewhere(view, sitter.points68, nearer)
        face = dataclasses.replace(face, points=face.points + as_from_elsewhere(view, points, nearer))
        own, shared = (n * face.size * jitter for n in LANDMARK_NOISE)
        face = dataclasses.replace(face, points=_noisy(face.points, own, shared, generator))
        return view, face, _noisy(points68, own, shared, generator)

    def follow(self, betas: Tensor, face: Face) -> tuple[HeadParams, Camera]:
        """Another moment of somebody whose identity is known, tracked as a film's frame is; the camera is
        the crop's."""
        view, person = self.fitter.view(face), self.fitter.person(betas.double().numpy())
        state = self.fitter.follow(person, view, self.fitter.begin(person, view, face), steps=8)
        return self.fitter.params(betas.double().numpy(), [state]), crop_camera()

    def _dense(self, points68: Tensor) -> Tensor:  # [68, 3] -> [478, 3]
        """About where the 478 points of a person with 68 are: good for a box, not for a fit."""
        return similarity(self.rest68, points68)(self.rest478)

    def _fit(
        self, face: Face, points68: np.ndarray | None, labels: Tensor, alpha: Tensor, focal: float,
        pick: float,
    ) -> tuple[HeadParams, Camera]:  # fmt: skip
        """focal: the photo's, px; pick in [0, 1]: half of the photos are taken for usual ones, of a quarter
        the focal length is known, of the rest it is found, as `track --lens` has them."""
        parts = labels.numpy().astype(np.uint8), alpha[0].numpy()
        choose = None if pick < 0.5 else chooser(focal if pick < 0.75 else None)
        if points68 is None:
            fit = self.fitter.fit([face], [parts], choose=choose)
        else:
            fit = self.fitter.fit_points68(points68, np.ones(68), face, parts, choose)
        return head_frame(self.model, self.fitter.params(fit.betas, fit.states), crop_camera(fit.focal))


def shoulder_free(labels: Tensor, mesh: Tensor, neck_row: float) -> Tensor:
    """What of pictures with these labels [K, H, W] an avatar can show, bool [K, H, W].

    Head, hair and neck, as far as its mesh goes (masks [K, 1, H, W]). Cloth and neck beyond the mesh go, and
    below neck_row (px) everything but hair.
    """
    near = F.max_pool2d(mesh, 5, 1, 2)[:, 0] > 0.1
    rows = torch.arange(mesh.shape[-2])[:, None] > neck_row
    low = torch.isin(labels, torch.tensor((CLOTH, NECK))) | (rows & (labels != HAIR))
    rim = F.max_pool2d(low[:, None].float(), 5, 1, 2)[:, 0] > 0  # half shoulder, half backdrop
    return near | ~(low | (rim & (labels == 0)))


def without_shoulders(truth: Sample, mesh: Tensor, neck_row: float) -> Sample:
    """The truth as far as the avatar's mesh goes, see `shoulder_free`."""
    keep = shoulder_free(truth.labels, mesh, neck_row)[:, None].to(truth.alpha)
    return dataclasses.replace(
        truth, rgb=truth.rgb * keep, alpha=truth.alpha * keep, normal=truth.normal * keep,
        labels=truth.labels * keep[:, 0].long(),
    )  # fmt: skip


def _evened(light: Light, share: float) -> Light:
    """The light with `share` of its directions made ambient: unseen backs are best lit evenly."""
    around = torch.cat(
        [light.around[:1] + share * 0.35 * light.colours.sum(0), light.around[1:] * (1 - share)]
    )
    evened = Light(light.directions, light.colours * (1 - share), around, light.exposure)
    return dataclasses.replace(evened, exposure=light.exposure * light.on_a_face() / evened.on_a_face())


def _all_around(light: Light) -> Light:
    """The light with its mirror image behind: a back as bright as the front, which the photo hardly tells."""
    behind = light.directions * torch.tensor([1.0, 1.0, -1.0])
    both = Light(
        torch.cat([light.directions, behind]), torch.cat([light.colours, 0.8 * light.colours]), light.around,
        light.exposure,
    )  # fmt: skip
    return dataclasses.replace(both, exposure=light.exposure * light.on_a_face() / both.on_a_face())


def random_scores(generator: torch.Generator, names: Sequence[str]) -> tuple[Tensor, np.ndarray]:
    """(expression [E] of a head with those blendshape names, scores [52] that a landmarker would give)."""
    draw = Draw(generator)
    expression = torch.zeros(len(names))
    scores = np.zeros(len(SCORES))
    if not draw.chance(0.3):
        play = {"mouthSmile": 0.7, "jawOpen": 0.4, "browInnerUp": 0.6, "browDown": 0.6, "eyeSquint": 0.6,
                "mouthPucker": 0.5, "mouthFrown": 0.4, "cheekPuff": 0.4, "eyeBlink": 0.35}  # fmt: skip
        for stem, most in play.items():
            if draw.chance(0.22 if stem != "mouthSmile" else 0.5):
                amount = most * draw.uniform()
                for i, name in enumerate(names):
                    if name in (stem, stem + "Left", stem + "Right"):
                        expression[i] = amount
    for i, name in enumerate(names):
        if name in SCORES:
            scores[SCORES.index(name)] = min(1.0, max(0.0, float(expression[i]) + draw.normal(0, 0.05)))
    return expression, scores


def _small_turn(draw: Draw, spread_deg: float) -> np.ndarray:  # [3, 3]
    from omega_cli.track.fit import rotation_of

    return rotation_of(np.radians([draw.normal(0, spread_deg) for _ in range(3)]))


def as_from_elsewhere(view: Camera, points: Tensor, factor: float) -> np.ndarray:
    """How far, px [L, 2], points [L, 3] would move in a picture from `factor` times the distance, laid over
    this one by shift and scale."""
    depth = float(view.viewmat[2, :3] @ points.mean(0) + view.viewmat[2, 3])
    viewmat, K = view.viewmat.clone(), view.K.clone()
    viewmat[2, 3] += (factor - 1) * depth
    K[[0, 1], [0, 1]] *= factor
    here, there = (
        camera.project(points)[0].double().numpy()
        for camera in (view, dataclasses.replace(view, K=K, viewmat=viewmat))
    )
    a, b = there - there.mean(0), here - here.mean(0)
    return a * (a * b).sum() / (a * a).sum() - b


def _noisy(points: np.ndarray, own: float, shared: float, generator: torch.Generator) -> np.ndarray:
    """Landmarks [L, 2] in error: each by itself, and together with its neighbours (a random quadratic)."""
    noise = own * torch.randn(points.shape, generator=generator, dtype=torch.double).numpy()
    x = (points - points.mean(0)) / max(float(np.ptp(points)), 1e-6) * 2
    terms = np.stack([np.ones(len(x)), x[:, 0], x[:, 1], x[:, 0] * x[:, 1], x[:, 0] ** 2, x[:, 1] ** 2], 1)
    mix = torch.randn(6, 2, generator=generator, dtype=torch.double).numpy()
    return points + noise + shared * terms @ mix / 1.6


def _softened(rgb: Tensor, draw: Draw, generator: torch.Generator, jitter: float) -> Tensor:
    """Blur, resampling, noise and JPEG of the photo alone; colours stay, for the truth must have them too."""
    if jitter == 0:
        return rgb
    if draw.chance(0.4):
        rgb = degrade.blur(rgb, draw.uniform(0.3, 2.0))
    if draw.chance(0.3):
        rgb = degrade.resample(rgb, draw.uniform(0.3, 0.9))
    if draw.chance(0.4):
        rgb = degrade.noise(rgb, draw.uniform(0, 0.002), draw.uniform(0, 0.03), generator)
    if draw.chance(0.5):
        rgb = degrade.jpeg(rgb, int(draw.uniform(40, 95)))
    return rgb


def _photo_area(alpha: Tensor, chin: float, draw: Draw, jitter: float) -> Tensor:  # [H, W] bool
    """Photos are cut: now and then through the crown, often below the chin."""
    rows = torch.arange(alpha.shape[-2])[:, None].expand(alpha.shape[-2:])
    area = torch.ones_like(rows, dtype=torch.bool)
    covered = torch.nonzero((alpha[0] > 0.5).any(1))[:, 0]
    if jitter == 0 or not len(covered):
        return area
    if draw.chance(0.12):
        area = area & (rows >= float(covered[0]) + draw.uniform(0, 0.12) * len(rows))
    if draw.chance(0.25):
        area = area & (rows <= chin + draw.uniform(0.01, 0.2) * len(rows))
    return area


def _rim_noise(alpha: Tensor, draw: Draw, jitter: float) -> Tensor:  # [1, H, W]
    """A matte that is a little too wide, too narrow, or too hard; 0 and 1 stay where nothing else is near."""
    if jitter == 0:
        return alpha
    blurred = degrade.blur(alpha[None], draw.uniform(0.5, 2.5))[0]
    slope, shift = draw.uniform(1.0, 4.0), draw.normal(0, 0.12)
    most = (slope - 1) / 2
    return ((blurred - 0.5) * slope + 0.5 + max(-most, min(most, shift))).clamp(0, 1)
