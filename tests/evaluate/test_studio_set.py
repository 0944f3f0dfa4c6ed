"""The embedded benchmark: the same people everywhere, seen from where the camera's name says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from omega_cli.avatar.layout import PARSING_LABELS
from omega_cli.data import studio_set
from omega_cli.errors import OmegaError
from omega_cli.evaluate.frames import Frame, standard_views
from omega_cli.evaluate.protocol import Protocol, Sample, standard
from omega_cli.head.assets import load_head

TARGETS = ("az000_el+00", "az090_el+00", "az180_el+20")
HAIR, SKIN = PARSING_LABELS.index("hair"), PARSING_LABELS.index("skin")


def small(identity: str = "0044", frames: tuple[int, ...] = (0,), size: int = 64) -> Protocol:
    samples = (Sample(identity, "studio", frames=frames),)
    return dataclasses.replace(
        standard("studio"), samples=samples, driven=(), target_cameras=TARGETS, size=size
    )


def read(protocol: Protocol) -> list[Frame]:
    return list(studio_set.read(Path(), protocol))


@pytest.fixture(scope="module")
def at_rest() -> Frame:
    return read(small())[0]


def test_views_are_seen_from_where_their_names_say(at_rest: Frame) -> None:
    assert [v.camera.id for v in (at_rest.source, *at_rest.targets)] == ["photo", *TARGETS]
    shares = []
    for view in at_rest.targets:
        labels, mask = view.labels(), view.mask()
        assert labels is not None and mask is not None
        assert float((mask[0] > 0.6).logical_and(labels[0] == 0).sum()) == 0  # people are labelled
        shares.append(float((labels == SKIN).sum() / (mask > 0.5).sum()))
    front, side, back = shares
    assert front > 1.5 * side > 0 and back < 0.3 * front  # long hair: from behind hardly any skin
    nose = load_head().landmark_points(load_head().v_template, "ibug68")[30]
    x = at_rest.targets[1].camera.project(nose)[0][0]
    assert float(x) < 32  # from the subject's left the nose points to the picture's left


def test_the_photo_is_taken_from_the_front_but_for_a_little_that_the_seed_fixes(at_rest: Frame) -> None:
    again, other = read(small())[0], read(small("0033"))[0]
    angles = []
    for frame in (at_rest, again, other):
        back = -frame.source.camera.forward
        angles.append(torch.rad2deg(torch.stack([torch.atan2(back[0], back[2]), torch.asin(back[1])])))
    assert torch.equal(angles[0], angles[1]) and not torch.allclose(angles[0], angles[2], atol=0.1)
    assert all(abs(a) <= most + 1e-3 for angle in angles for a, most in zip(angle, studio_set.JITTER_DEG))
    assert torch.equal(at_rest.source.image(), again.source.image())


def test_pictures_do_not_depend_on_the_order_in_which_they_are_asked_for(at_rest: Frame) -> None:
    backwards = read(small())[0]
    last = [view.image() for view in reversed(backwards.targets)][::-1]
    for view, image in zip(at_rest.targets, last, strict=True):
        assert torch.equal(view.image(), image)


def test_colours_are_straight(at_rest: Frame) -> None:
    """At the rim the colour is the person's own: over black it is darkened by the mask, once."""
    found = at_rest.targets[0].read("black")
    assert found.mask is not None
    rim = (found.mask[0] > 0.2) & (found.mask[0] < 0.6)
    assert int(rim.sum()) > 10
    torch.testing.assert_close(found.over[:, rim], found.image[:, rim] * found.mask[:, rim])
    inside = found.image[:, found.mask[0] == 1].mean()
    assert float(found.image[:, rim].mean()) > 0.5 * float(inside)


def test_other_frames_move_as_the_truth_says() -> None:
    rest, moved = read(small(frames=(0, 1)))
    head = load_head()
    params = studio_set.moment(head, 1)
    jaw = head.expression_names.index("jawOpen")
    assert float(params.expression[0, jaw]) == pytest.approx(0.45)
    brows = [head.expression_names.index(f"browOuterUp{side}") for side in ("Left", "Right")]
    assert params.expression[0, brows].tolist() == pytest.approx([0.5, 0.5])
    assert float(params.neck_pose[0, 1]) == pytest.approx(0.25)
    assert float((rest.source.image() - moved.source.image()).abs().mean()) > 0.01


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"target_cameras": ()}, "no target cameras"),
        ({"target_cameras": ("left",)}, "'left' names no camera"),
        ({"samples": (Sample("bob", "studio", frames=(0,)),)}, "no identity 'bob'"),
        ({"samples": (Sample("0044", "smile", frames=(0,)),)}, "0044/smile"),
        ({"samples": (Sample("0044", "studio", frames=(7,)),)}, r"frames \[7\]"),
        ({"samples": (Sample("0044", "studio", fractions=(0.5,)),)}, "samples fractions"),
        ({"studio_version": 1}, "for version 1 of the studio; this is"),
    ],
)
def test_what_is_wrong_is_said(change: dict, says: str) -> None:
    with pytest.raises(OmegaError, match=says) as caught:
        read(dataclasses.replace(small(), **change))
    assert caught.value.hint


def test_the_standard_people_can_all_be_drawn() -> None:
    """None of the eight is missing, and no two look alike from the front."""
    protocol = standard("studio")
    some = dataclasses.replace(protocol, size=32, target_cameras=TARGETS[:1], driven=())
    pictures = [standard_views(frame, some)[1][0].read("black").over for frame in read(some)]
    assert len(pictures) == 8
    for i, one in enumerate(pictures):
        for other in pictures[:i]:
            assert float((one - other).abs().mean()) > 0.02
