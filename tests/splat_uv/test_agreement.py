"""What the photo says about a view's pixel: another part, another colour, or nothing."""

from __future__ import annotations

from dataclasses import replace

import torch

from omega_cli.avatar import layout
from omega_cli.geometry.camera import orthographic
from omega_cli.head.assets import load_head
from omega_cli.head.parts import PARTS
from omega_cli.mv_diffuse.views import canonical_cameras
from omega_cli.splat_uv.agreement import (
    APART,
    FREE,
    HAIR,
    NEIGHBOURS,
    agreement_table,
    colour_range,
    colours_agree,
    parsing_agrees,
)
from omega_cli.splat_uv.config import SplatUVConfig
from omega_cli.splat_uv.stage import Photo, SplatHead, SplatMesh, Views, splat_views

SKIN = layout.PARSING_LABELS.index("skin")
TAN, GREEN = torch.tensor([0.8, 0.6, 0.5]), torch.tensor([0.1, 0.9, 0.1])


def test_the_table_lets_eyeballs_show_eyes_alone() -> None:
    table = agreement_table(layout.PARSING_LABELS)
    part = torch.tensor([PARTS.index(name) for name in ("skin", "skin", "left_eye", "left_eye", "teeth")])
    labels = torch.tensor([[layout.PARSING_LABELS.index(n) for n in ("skin", "eyes", "mouth_inside")]])
    seen = torch.tensor([0, 1, 1, 0, 2])
    assert parsing_agrees(part, seen, labels, table).tolist() == [True, False, True, False, True]
    assert parsing_agrees(part, torch.full((5,), -1), labels.byte(), table).all()  # the photo shows nothing


def test_a_colour_within_the_neighbourhood_agrees_and_beyond_it_fades() -> None:
    rgba = torch.cat([TAN[:, None, None].expand(3, 32, 32), torch.ones(1, 32, 32)])
    rgba[:3, :, 16:] = 0.3
    seen = colour_range(rgba, torch.full((32, 32), SKIN))
    plain, border = 16 * 32 + 5, 16 * 32 + 16 - NEIGHBOURS

    def agreed(shift: float, pixel: int) -> float:
        return float(colours_agree(TAN[None] - shift, torch.tensor([pixel]), *seen))

    assert agreed(0.0, plain) == agreed(FREE - 0.01, plain) == 1 and agreed(APART + 0.01, plain) == 0
    assert 0.4 < agreed((FREE + APART) / 2, plain) < 0.6
    assert agreed(0.25, border) == 1  # the darker side is as near as the mesh may be off
    assert agreed(0.5, -1) == 1


def test_around_hair_and_beyond_the_head_the_photo_says_nothing() -> None:
    rgba = torch.cat([TAN[:, None, None].expand(3, 32, 32), torch.ones(1, 32, 32)])
    rgba[3, :4] = 0
    labels = torch.full((32, 32), SKIN)
    labels[28:] = HAIR
    seen = colour_range(rgba, labels)
    rows = torch.arange(32)
    agreed = colours_agree(GREEN.expand(32, 3), rows * 32 + 16, *seen)
    free = (rows < 4 + NEIGHBOURS) | (rows >= 28 - NEIGHBOURS)
    assert torch.equal(agreed, free.float())


def test_what_side_views_paint_over_the_seen_face_is_not_believed() -> None:
    """All views but the front are green; the photo is the front view, so the face stays skin."""
    head, size = load_head(), 192
    params, offsets = head.zeros(), torch.zeros_like(head.v_template)
    mesh = SplatMesh.posed(SplatHead.of(head), params, offsets)
    cameras = canonical_cameras(size, 0.21)
    flat = [(GREEN if k else TAN)[:, None, None].expand(3, size, size) for k in range(6)]
    views = Views(cameras, flat, [torch.ones(1, size, size) for _ in range(6)], torch.ones(6))
    labels = torch.full((size, size), SKIN)
    rgba = torch.cat([flat[0], torch.ones(1, size, size)])
    camera = orthographic(0.0, size, 0.21, torch.tensor([0.0, -0.01, 0.0]))
    known = agreement_table(layout.PARSING_LABELS)
    photo = Photo(labels, mesh.vertices, camera, known, *colour_range(rgba, labels))
    blind = replace(photo, low=torch.full_like(photo.low, -1), high=torch.full_like(photo.high, 2))
    config = SplatUVConfig(uv_size=64, levels=3)
    maps = [splat_views(views, mesh, each, config)[0] for each in (photo, blind)]
    skin = [(m.features[:3] - TAN[:, None, None]).abs().amax(0) < 0.05 for m in maps]
    green = [(m.features[:3] - GREEN[:, None, None]).abs().amax(0) < 0.05 for m in maps]
    assert int(skin[0].sum()) > 1.3 * int(skin[1].sum())  # up to where the front sees it
    assert bool(green[0].any()) and int(green[0].sum()) > 0.6 * int(
        green[1].sum()
    )  # behind they are all there is
