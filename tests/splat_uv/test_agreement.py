"""What photo and front view say about a view's pixel: another part, another colour, or nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from omega_cli.avatar import layout
from omega_cli.head.assets import load_head
from omega_cli.head.parts import PARTS
from omega_cli.mv_diffuse.views import canonical_cameras
from omega_cli.splat_uv.agreement import (
    APART,
    FREE,
    NEIGHBOURS,
    agreement_table,
    colour_range,
    colours_agree,
    parsing_agrees,
)
from omega_cli.splat_uv.canonical import UVMap
from omega_cli.splat_uv.config import SplatUVConfig
from omega_cli.splat_uv.stage import Photo, SplatHead, SplatMesh, Views, splat_views

SKIN, HAIR = (layout.PARSING_LABELS.index(name) for name in ("skin", "hair"))
TAN, GREEN = torch.tensor([0.8, 0.6, 0.5]), torch.tensor([0.1, 0.9, 0.1])


def test_the_table_lets_eyeballs_show_eyes_alone() -> None:
    table = agreement_table(layout.PARSING_LABELS)
    part = torch.tensor([PARTS.index(name) for name in ("skin", "skin", "left_eye", "left_eye", "teeth")])
    labels = torch.tensor([[layout.PARSING_LABELS.index(n) for n in ("skin", "eyes", "mouth_inside")]])
    seen = torch.tensor([0, 1, 1, 0, 2])
    assert parsing_agrees(part, seen, labels, table).tolist() == [True, False, True, False, True]
    assert parsing_agrees(part, torch.full((5,), -1), labels.byte(), table).all()  # the photo shows nothing


def test_a_colour_within_the_neighbourhood_agrees_and_beyond_it_fades() -> None:
    rgb, mask = TAN[:, None, None].repeat(1, 32, 32), torch.ones(1, 32, 32)
    rgb[:, :, 16:] = 0.3
    mask[:, :4] = 0
    seen = colour_range(rgb, mask)
    plain, border, rim = 16 * 32 + 5, 16 * 32 + 16 - NEIGHBOURS, (4 + NEIGHBOURS - 1) * 32 + 5

    def agreed(shift: float, pixel: int) -> float:
        return float(colours_agree(TAN[None] - shift, torch.tensor([pixel]), *seen))

    assert agreed(0.0, plain) == agreed(FREE - 0.01, plain) == 1 and agreed(APART + 0.01, plain) == 0
    assert 0.4 < agreed((FREE + APART) / 2, plain) < 0.6
    assert agreed(0.25, border) == 1  # the darker side is as near as the mesh may be off
    assert agreed(0.5, rim) == 1 and agreed(0.5, rim + 32) == 0  # beside the outline nothing is sure
    assert agreed(0.5, -1) == 1


SIZE = 192


def mapped(colours: list[Tensor], label: int) -> UVMap:
    """The map of six plain views of the mean head, where the photo has one label all over."""
    head = load_head()
    mesh = SplatMesh.posed(SplatHead.of(head), head.zeros(), torch.zeros_like(head.v_template))
    cameras = canonical_cameras(SIZE, 0.21)
    flat = [colour[:, None, None].expand(3, SIZE, SIZE) for colour in colours]
    views = Views(cameras, flat, [torch.ones(1, SIZE, SIZE) for _ in cameras], torch.ones(6))
    known = agreement_table(layout.PARSING_LABELS)
    photo = Photo(torch.full((SIZE, SIZE), label), mesh.vertices, cameras[0], known)
    return splat_views(views, mesh, photo, SplatUVConfig(uv_size=64, levels=3))[0]


def of_colour(uv_map: UVMap, colour: Tensor) -> int:
    return int(((uv_map.features[:3] - colour[:, None, None]).abs().amax(0) < 0.05).sum())


def test_what_side_views_paint_over_the_seen_face_is_not_believed() -> None:
    green_sides = [TAN] + 5 * [GREEN]
    skin, hair = (mapped(green_sides, label) for label in (SKIN, HAIR))
    assert of_colour(skin, TAN) > 1.3 * of_colour(hair, TAN)  # up to where the front sees it
    assert of_colour(skin, GREEN) > 0.6 * of_colour(hair, GREEN) > 0  # behind they are all there is


def test_views_of_ones_own_in_other_colours_than_the_photo_are_taken_whole() -> None:
    """The photo is not asked for its colours: who repaints all views gets what was painted."""
    skin, hair = (mapped(6 * [GREEN], label) for label in (SKIN, HAIR))
    assert torch.equal(skin.weight, hair.weight) and of_colour(skin, GREEN) > 1000
