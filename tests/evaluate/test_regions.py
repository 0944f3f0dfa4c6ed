"""Regions: what belongs to the head and what never does, by labels and by the fitted head's outline."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from omega_cli.avatar.layout import PARSING_LABELS
from omega_cli.evaluate import regions
from omega_cli.evaluate.protocol import Protocol, Sample
from omega_cli.geometry.camera import perspective
from omega_cli.geometry.similarity import Similarity
from omega_cli.head.assets import load_head

PROTOCOL = Protocol("test", "valid", (Sample("a", "s", frames=(0,)),), "0", region_rim=0.05)
HERE = Similarity(torch.tensor(1.0), torch.eye(3), torch.zeros(3))
SIZE = 100


def portrait() -> torch.Tensor:
    """Labels [1, 100, 100]: hair above a face above a neck, all 40 wide, over cloth of the whole width."""
    labels = torch.zeros(1, SIZE, SIZE, dtype=torch.uint8)
    for name, rows in (("hair", (10, 30)), ("skin", (30, 60)), ("neck", (60, 70))):
        labels[:, rows[0] : rows[1], 30:70] = PARSING_LABELS.index(name)
    labels[:, 40:42, 45:55] = PARSING_LABELS.index("eyes")
    labels[:, 70:] = PARSING_LABELS.index("cloth")
    return labels


def test_the_head_is_all_but_cloth_with_a_rim_of_background() -> None:
    found = regions.by_labels(portrait(), PROTOCOL)
    assert {name: int(mask.sum()) for name, mask in found.items()} == {
        "head": (60 + 5) * (40 + 2 * 5), "face": 30 * 40, "hair": 20 * 40, "neck": 10 * 40
    }  # fmt: skip
    assert float(found["head"][:, 70:].sum()) == 0  # cloth is nobody's head, however near
    assert float(found["head"][:, 5:70, 25:75].min()) == 1


def test_what_is_not_there_or_not_asked_for_is_no_region() -> None:
    labels = portrait()
    labels[labels == PARSING_LABELS.index("hair")] = 0
    assert set(regions.by_labels(labels, PROTOCOL)) == {"head", "face", "neck"}
    few = dataclasses.replace(PROTOCOL, regions=("face",))
    assert set(regions.by_labels(labels, few)) == {"face"}
    with pytest.raises(ValueError, match="each of regions"):
        dataclasses.replace(PROTOCOL, regions=("nose",))


def test_the_outline_ends_at_the_jaw_and_gives_hair_room() -> None:
    """From the front and from above: shoulders are out, hair that stands 2 cm off the scalp is in."""
    head = load_head()
    vertices = head.identity(head.zeros().betas)
    points = regions.outline(head, vertices, 0.03)
    top = vertices[head.regions["scalp"]][:, 1].max()
    assert float(points[:, 1].max()) == pytest.approx(float(top) + 0.03, abs=0.004)
    for elevation in (0.0, 30.0):
        camera = perspective(0, 200, 0.25, elevation_deg=elevation)
        mask = regions.hull_mask(points, HERE, camera)

        def inside(*point: float, camera=camera, mask=mask) -> bool:
            x, y = camera.project(torch.tensor([point]))[0][0].tolist()
            return bool(mask[0, int(y), int(x)])

        assert inside(0, float(top) + 0.02, 0) and inside(0, 0, 0.1)
        assert not inside(0, -0.15, 0.05) and not inside(0.16, -0.15, 0)


def test_a_body_outside_the_outline_is_cut_and_what_stands_out_of_the_head_counts() -> None:
    person = torch.zeros(1, SIZE, SIZE)
    person[:, 20:70, 40:60] = 1
    person[:, 70:] = 1
    hull = torch.zeros(1, SIZE, SIZE)
    hull[:, 10:70, 30:70] = 1
    mask = regions.by_hull(person, hull, PROTOCOL)["head"]
    assert float(mask[:, 70:].sum()) == 0 and float(mask[:, 15:70, 35:65].min()) == 1
    assert int(mask.sum()) == 55 * 30


@pytest.mark.parametrize("corner", [(0, 0), (95, 0), (50, 40), (95, 95)])
def test_the_box_holds_the_region_and_is_large_enough(corner: tuple[int, int]) -> None:
    mask = torch.zeros(1, SIZE, SIZE, dtype=torch.bool)
    y, x = corner
    mask[:, y : y + 5, x : x + 5] = True
    rows, columns = regions.box_around(mask, 3, 32)
    assert int(mask[:, rows, columns].sum()) == 25
    assert (rows.stop - rows.start, columns.stop - columns.start) == (32, 32)
    assert rows.start >= 0 and rows.stop <= SIZE
