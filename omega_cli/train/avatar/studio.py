"""People of the studio as samples of the avatar network: photographed, fitted, and true from all sides."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.data.studio.blends import BlendPerson
from omega_cli.data.studio.look import Draw
from omega_cli.data.studio.people import Person
from omega_cli.data.studio.scene import Sample
from omega_cli.deform_flame.config import DeformFlameConfig
from omega_cli.deform_flame.problem import deform, views_frame
from omega_cli.geometry.camera import Camera, perspective
from omega_cli.geometry.raster import rasterize
from omega_cli.head.frame import head_frame
from omega_cli.head.params import HeadParams
from omega_cli.mv_diffuse.config import MvDiffuseConfig
from omega_cli.mv_diffuse.lift import View, lift_views
from omega_cli.mv_diffuse.network import ViewNet
from omega_cli.mv_diffuse.predict import predict_views
from omega_cli.mv_diffuse.stage import wears_a_hat
from omega_cli.mv_diffuse.views import canonical_cameras
from omega_cli.train.avatar.samples import DRIVEN, NOVEL, SOURCE, AvatarSample, Targets, to_bytes
from omega_cli.train.views.portraits import Portrait
from omega_cli.train.views.samples import Studio, blend_sitter, studio_sitter
from omega_cli.train.views.shots import (
    BELOW_CHIN,
    Sitter,
    Taken,
    Tracked,
    shoulder_free,
    without_shoulders,
)

CENTRE = (0.0, -0.01, 0.0)  # m: what novel views look at


@dataclass(frozen=True)
class TargetPlan:
    """How many true pictures of each kind, and how large, px."""

    novel: int = 3
    driven: int = 2
    size: int = 512


@dataclass(frozen=True)
class KnownHead:
    """A fitted avatar's mesh: params and offsets; enough to say where it is in a picture."""

    studio: Studio
    params: HeadParams
    offsets: Tensor

    def seen(self, params: HeadParams, camera: Camera) -> tuple[Tensor, float]:
        """Its mask [1, 1, H, W] in a picture, and the row below which the chin is well above, px."""
        model = self.studio.sources.model
        vertices = model.forward(params, self.offsets).vertices[0]
        mask = (rasterize(vertices, model.faces, camera).face_index >= 0).float()[None, None]
        chin = model.landmark_points(vertices, "ibug68")[8]
        pixel, depth = camera.project(chin)
        return mask, float(pixel[1]) + BELOW_CHIN * float(camera.K[1, 1]) / float(depth)


class AvatarStudio:
    """Makes samples on the CPU, one person at a time."""

    def __init__(
        self,
        studio: Studio,
        net: ViewNet | None,
        net_size: int,  # px at which it works
        plan: TargetPlan,
        views: MvDiffuseConfig,
        fit: DeformFlameConfig,
        net_place: torch.device | str = "cpu",  # the network's share of a sample is large, and small on a GPU
    ) -> None:
        self.studio, self.net, self.net_size, self.plan = studio, net, net_size, plan
        self.net_place = net_place
        self.views, self.fit = views, fit

    @torch.no_grad()  # not inference mode, whose tensors the fit could not use
    def sample(self, person: Person | BlendPerson, generator: torch.Generator) -> AvatarSample:
        """One photo of a person, the pipeline's view of it, and the true pictures."""
        sitter = self._sitter(person, generator)
        taken = self.studio.photographer.photograph(sitter, generator)
        views, known = self._made(taken, generator)
        shots = [self.source(known, taken)]
        shots += [self._novel(known, sitter, taken, generator) for _ in range(self.plan.novel)]
        if isinstance(person, Person):
            shots += [self._driven(known, person, taken, generator) for _ in range(self.plan.driven)]
        else:  # of a blend no landmarker scores are known: it is seen from more sides
            shots += [self._novel(known, sitter, taken, generator) for _ in range(self.plan.driven)]
        return _sample(views, known, taken, shots)

    @torch.no_grad()
    def portrait(self, portrait: Portrait) -> AvatarSample:
        """A tracked photograph. Of somebody real only the photo is true."""
        model = self.studio.sources.model
        params, camera = head_frame(model, portrait.params, portrait.camera)
        points = model.landmark_points(model(params).vertices[0], "ibug68")
        taken = Tracked(
            portrait.rgba, portrait.labels, portrait.area, params, camera, points, camera.project(points)[0]
        )
        views, known = self._made(taken, torch.Generator().manual_seed(0))
        return _sample(views, known, taken, [self.source(known, taken)])

    def _made(self, taken: Tracked, generator: torch.Generator) -> tuple[list[View], KnownHead]:
        """What the pipeline makes of a photo: views and head."""
        views = self._views(taken, generator)
        return views, KnownHead(self.studio, views_frame(taken.params), self._deformed(taken, views))

    @staticmethod
    def _sitter(person: Person | BlendPerson, generator: torch.Generator) -> Sitter:
        return studio_sitter(person, generator) if isinstance(person, Person) else blend_sitter(person)

    def _views(self, taken: Tracked, generator: torch.Generator) -> list[View]:
        """As `omega mv-diffuse` makes them."""
        model, config = self.studio.sources.model, self.views
        lift = lift_views(
            model, taken.params, taken.camera, taken.rgba, taken.labels, taken.area,
            canonical_cameras(config.size, config.half_extent), config.texture_size, config.inflate,
            config.mirror, generator,
        )  # fmt: skip
        if self.net is None or wears_a_hat(taken.labels):
            return lift.views
        photo = taken.rgba, taken.labels, taken.area, taken.camera, taken.points
        return predict_views(self.net, lift.views, *photo, self.net_size, self.net_place)

    def _deformed(self, taken: Tracked, views: list[View]) -> Tensor:  # [V, 3] m
        """Offsets as `omega deform-flame` finds them."""
        cut = [(v.camera, F.normalize(_encoded(v.normal), dim=0).clone(), v.mask.clone()) for v in views]
        with torch.enable_grad():
            fit = deform(
                self.studio.sources.model, taken.params, cut, self.fit, points=taken.marks,
                scores=torch.ones(len(taken.marks)), photo=taken.camera,
            )  # fmt: skip
        return fit.offsets.detach()

    def source(self, known: KnownHead, taken: Tracked) -> Targets:
        """The photo itself."""
        size = self.plan.size
        keep = shoulder_free(taken.labels[None], *known.seen(taken.params, taken.camera))
        image = torch.cat([taken.rgba[:3], taken.rgba[3:] * keep, taken.area[None].to(taken.rgba)])[None]
        image = F.interpolate(image, (size, size), mode="area")
        return _target(image[:, :4], image[:, 4:], taken.camera.resized(size, size), taken.params, SOURCE)

    def _novel(self, known: KnownHead, sitter: Sitter, taken: Taken, generator: torch.Generator) -> Targets:
        """The same moment from anywhere around the head."""
        draw, size = Draw(generator), self.plan.size
        camera = perspective(
            draw.uniform(-180, 180), size, draw.uniform(0.19, 0.25), draw.uniform(0.8, 2.5),
            torch.tensor(CENTRE), max(-30.0, min(30.0, draw.normal(0, 12))),
        )  # fmt: skip
        seen = sitter.draw([taken.to_fit.seen_by(camera)], taken.light, size)
        return self._cut(known, seen, camera, known.params, NOVEL)

    def _driven(self, known: KnownHead, person: Person, taken: Taken, generator: torch.Generator) -> Targets:
        """Another face of the same person in the same light, tracked by what is known of them."""
        size = self.plan.size
        sitter = studio_sitter(person, generator)
        camera, face, _ = self.studio.photographer.aim(sitter, Draw(generator), generator, 1.0)
        seen = sitter.draw([camera.resized(size, size)], taken.light, size)
        params, camera_fit = self.studio.photographer.follow(taken.params.betas, face)
        return self._cut(known, seen, camera_fit.resized(size, size), params, DRIVEN)

    def _cut(self, known: KnownHead, seen: Sample, camera: Camera, params: HeadParams, kind: int) -> Targets:
        """The picture as far as the avatar's mesh goes: no shoulders."""
        cut = without_shoulders(seen, *known.seen(params, camera))
        return _target(torch.cat([cut.rgb, cut.alpha], 1), torch.ones_like(cut.alpha), camera, params, kind)


def _sample(views: list[View], known: KnownHead, taken: Tracked, shots: list[Targets]) -> AvatarSample:
    return AvatarSample(
        to_bytes(torch.stack([v.rgb for v in views])), to_bytes(torch.stack([v.mask for v in views])),
        known.params, known.offsets, taken.labels.byte(), taken.camera.K, taken.camera.viewmat,
        stacked(shots),
    )  # fmt: skip


def _encoded(normal: Tensor) -> Tensor:
    """A normal as its file has it: eight bits."""
    return to_bytes(normal * 0.5 + 0.5).float() / 255 * 2 - 1


def _target(rgba: Tensor, known: Tensor, camera: Camera, params: HeadParams, kind: int) -> Targets:
    return Targets(
        to_bytes(rgba), to_bytes(known), camera.K[None], camera.viewmat[None], params, torch.tensor([kind])
    )


def stacked(shots: list[Targets]) -> Targets:
    frames = {}
    for field in fields(HeadParams):
        values = [getattr(shot.frames, field.name) for shot in shots]
        frames[field.name] = values[0] if field.name in ("betas", "scale") else torch.cat(values)
    whole = {n: torch.cat([getattr(s, n) for s in shots]) for n in ("rgba", "known", "K", "viewmat", "kind")}
    return replace(shots[0], frames=HeadParams(**frames), **whole)
