"""Fits a sample's Gaussians to its photo and views, as `decode` does: once, where samples are made."""

from __future__ import annotations

from dataclasses import replace

import torch

from omega_cli.decode.pictures import Picture, photo_picture, view_picture
from omega_cli.geometry.raster import rasterize
from omega_cli.head.model import HeadModel
from omega_cli.model import Base
from omega_cli.splat_uv.config import SplatUVConfig
from omega_cli.splat_uv.stage import Views, splat_views
from omega_cli.train.avatar.pool import Member, moved
from omega_cli.train.avatar.samples import SOURCE, AvatarSample, packed


@torch.no_grad()
def fitted(sample: AvatarSample, head: HeadModel, splat: SplatUVConfig, steps: int) -> AvatarSample:
    """The sample with its fit, found on the head's device; as it was for no steps."""
    if not steps:
        return sample
    member = Member("", moved(sample, head.v_template.device))
    views, stand = member.views(), member.standing(head)
    uv_map, _, _ = splat_views(views, stand.mesh, member.photo(head), splat)
    base = Base.of(head, stand.shaped, uv_map, pictures_of(member, head, views), steps)
    assert base.fitted is not None
    return replace(sample, fit=packed(base.fitted, base.decoded.covered))


def pictures_of(member: Member, head: HeadModel, views: Views) -> list[Picture]:
    """What the Gaussians are fitted to, as decode loads them: the photo, then the views."""
    sample, stand, source = member.sample, member.standing(head), member.kinds.index(SOURCE)
    camera, vertices = sample.targets.camera(source), stand.vertices[1 + source]
    rgba, known = (t[source].float() / 255 for t in (sample.targets.rgba, sample.targets.known))
    mesh = rasterize(vertices, head.faces, camera).mask.float()
    photo = photo_picture(rgba, known[0], sample.labels, mesh, camera, vertices)
    seen = zip(views.rgb, views.mask, views.cameras, strict=True)
    return [photo, *(view_picture(*of, stand.vertices[0]) for of in seen)]
