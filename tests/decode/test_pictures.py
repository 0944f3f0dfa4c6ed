"""Photo and views as pictures to be fitted to: where each says something, and over which background."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from omega_cli.avatar import layout
from omega_cli.avatar.crop import EDGE, photo_area
from omega_cli.decode.pictures import BODY, RIM, THIN, Picture, grown, photo_picture, view_picture
from omega_cli.geometry.camera import orthographic

SIZE = 80
CAMERA, NOWHERE = orthographic(0.0, SIZE, 0.2), torch.zeros(1, 3)
CLOTH = layout.PARSING_LABELS.index("cloth")
NONE, ALL = torch.zeros(SIZE, SIZE), torch.ones(SIZE, SIZE)


def box(top: int, bottom: int, left: int, right: int) -> Tensor:
    """1 inside, as a picture [H, W]."""
    mask = torch.zeros(SIZE, SIZE)
    mask[top:bottom, left:right] = 1
    return mask


def known(alpha: Tensor, mesh: Tensor, labels: Tensor = NONE, area: Tensor = ALL) -> Tensor:  # [H, W] bool
    rgba = torch.cat([torch.full((3, SIZE, SIZE), 0.5), alpha[None]])
    seen = photo_picture(rgba, area, labels.long(), mesh, CAMERA, NOWHERE).known
    assert seen.shape == (1, SIZE, SIZE) and bool(((seen == 0) | (seen == 1)).all())
    return seen[0] == 1


def test_the_body_is_neck_necklace_and_cloth() -> None:
    assert [layout.PARSING_LABELS[label] for label in BODY] == ["neck", "necklace", "cloth"]


def test_shoulders_beyond_the_mesh_are_nobodys() -> None:
    """With a rim around them; what the mesh has of them is the avatar's, and so is everything above."""
    mesh, shoulders = box(10, 60, 30, 50), box(50, 80, 0, 80)
    found = known(torch.maximum(mesh, shoulders), mesh, CLOTH * shoulders)
    beyond = (grown(shoulders, RIM) == 1) & (grown(mesh, RIM) == 0)
    assert bool(beyond[50 - RIM, 0]) and not beyond[50 - RIM - 1].any()
    assert torch.equal(found, ~beyond)
    assert bool(found[mesh == 1].all())


@pytest.mark.parametrize("label", BODY)
def test_every_label_of_the_body_counts_and_no_other(label: int) -> None:
    labels = box(40, 80, 0, 80)
    assert not known(ALL, NONE, label * labels)[45:].any()
    other = layout.PARSING_LABELS.index("hair")
    assert bool(known(ALL, NONE, other * labels).all())


def test_what_is_thicker_than_an_outlines_error_is_let_be() -> None:
    """Parts of the mesh that the photo does not show: up to 2 THIN px wide they are an outline to be mended,
    one more and they are a lock that only other views have."""
    head = box(20, 60, 30, 50)
    rim, lock = (torch.maximum(head, box(20, 60, 50, 50 + width)) for width in (2 * THIN, 2 * THIN + 1))
    assert bool(known(head, rim).all())
    found = known(head, lock)
    absent = lock * (1 - head)
    assert torch.equal(found, grown(absent, RIM) == 0)  # all of it, and its rim
    assert bool(known(lock, lock).all())  # where the photo shows it
    assert bool(known(lock, head).all())  # and where the mesh has none of it


def test_half_of_a_pixel_is_enough_to_be_there() -> None:
    head, lock = box(20, 60, 30, 50), box(20, 60, 50, 70)
    mesh = torch.maximum(head, lock)
    assert bool(known(head + 0.5 * lock, mesh).all())
    assert not known(head + 0.49 * lock, mesh)[lock == 1].any()


def test_beyond_the_photos_edge_nothing_is_known() -> None:
    """Nor in its outermost pixels; and no lock is missed there."""
    crop = {"scale": 0.5, "shift": [10.0, 0.0], "photo_size": [100, 160]}  # columns 10 to 60, all rows
    area = photo_area(crop, SIZE, SIZE)
    found = known(ALL, ALL, area=area)
    assert torch.equal(found, box(EDGE, SIZE - EDGE, 10 + EDGE, 60 - EDGE) == 1)
    assert bool(known(ALL, ALL, area=photo_area(None, SIZE, SIZE)).all())


def test_photo_and_view_of_the_same_thing_are_the_same_over_any_background() -> None:
    generator = torch.Generator().manual_seed(0)
    colour = torch.rand(3, SIZE, SIZE, generator=generator)
    alpha = torch.rand(1, SIZE, SIZE, generator=generator)
    alpha = alpha * (alpha > 0.2) + (alpha > 0.8) * (1 - alpha)  # empty, soft, full
    photo = photo_picture(torch.cat([colour, alpha]), ALL, NONE.long(), NONE, CAMERA, NOWHERE)
    view = view_picture(colour * alpha + 1 - alpha, alpha, CAMERA, NOWHERE)
    for background in (torch.zeros(3), torch.ones(3), torch.rand(3, generator=generator)):
        laid = colour * alpha + background[:, None, None] * (1 - alpha)
        for picture in (photo, view):
            torch.testing.assert_close(picture.over(background), laid, atol=1e-6, rtol=0)
    assert bool((view.known == 1).all())


def test_a_picture_over_black_is_its_colour() -> None:
    alpha = box(20, 60, 20, 60)[None]
    picture = Picture(CAMERA, 0.4 * alpha.expand(3, -1, -1), alpha, ALL[None], NOWHERE)
    assert torch.equal(picture.over(torch.zeros(3)), picture.colour)
    assert torch.equal(picture.over(torch.ones(3))[:, 0, 0], torch.ones(3))


def test_a_mask_grows_on_all_sides_alike_and_no_further_than_the_picture() -> None:
    assert torch.equal(grown(box(20, 30, 40, 41), 3), box(17, 33, 37, 44))
    assert torch.equal(grown(box(0, 1, 0, 80), 2), box(0, 3, 0, 80))
    assert torch.equal(grown(ALL, 5), ALL) and not grown(NONE, 5).any()


def test_a_view_on_another_ground_keeps_to_its_mask() -> None:
    """Views of one's own need not be on white."""
    mask = torch.zeros(1, 8, 8)
    mask[:, 2:6, 2:6] = 1
    rgb = 0.3 * mask.expand(3, -1, -1)  # on black
    picture = view_picture(rgb, mask, orthographic(0.0, 8, 0.2), torch.zeros(1, 3))
    assert torch.equal(picture.colour, rgb)
