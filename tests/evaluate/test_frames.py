"""The square that is compared: cameras, pictures and masks cut alike; and the way to the readers."""

from __future__ import annotations

import pytest
import torch

from omega_cli.errors import OmegaError
from omega_cli.evaluate import frames
from omega_cli.evaluate.frames import Box, Frame, View
from omega_cli.evaluate.protocol import Protocol, Sample
from omega_cli.geometry.camera import Camera, orbit_viewmat, perspective

POINT = torch.tensor([[0.02, -0.03, 0.01]])


def view(size: tuple[int, int] = (60, 40), azimuth: float = 30.0) -> View:
    """A camera with an off-centre principal point whose picture encodes its own pixel coordinates."""
    width, height = size
    K = torch.tensor([[150.0, 0, 0.4 * width], [0, 140.0, 0.6 * height], [0, 0, 1]])
    camera = Camera(K, orbit_viewmat(azimuth, 12.0, 1.1), width, height, "pinhole", f"{azimuth}")
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    image = torch.stack([x / 100, y / 100, torch.ones_like(x)])
    return View(camera, lambda: image, lambda: (x < 20).float()[None])


@pytest.mark.parametrize("size", [16, 10, 24])
def test_a_cut_picture_and_its_camera_agree(size: int) -> None:
    """What a pixel shows and what the camera projects there stay together, at any size."""
    whole, box = view(), Box(11, 9, 16)
    cut = whole.cropped(box, size)
    image = cut.image()
    assert image.shape == (3, size, size) and (cut.camera.width, cut.camera.height) == (size, size)
    middle = slice(2, size - 2)  # resizing at the border sees beyond it
    at = torch.arange(size)[middle] + 0.5
    # pixels: exact where nothing is resampled; 0.06 measured for torch's antialiasing filter from 16 to 10
    within = 1e-4 if size == 16 else 0.08
    torch.testing.assert_close(image[0, 5, middle] * 100, at * 16 / size + 11, atol=within, rtol=0)
    before, after = whole.camera.project(POINT)[0], cut.camera.project(POINT)[0]
    torch.testing.assert_close((before - torch.tensor([11.0, 9.0])) * size / 16, after)
    mask, seen = cut.mask(), cut.seen()
    assert mask is not None and seen is not None and bool((seen == 1).all())
    assert abs(float(mask.mean()) - 9 / 16) < 0.02
    assert cut.background() is None


def test_beyond_the_picture_is_black_and_unseen() -> None:
    cut = view().cropped(Box(-10, 30, 20), 20)
    seen, mask = cut.seen(), cut.mask()
    assert seen is not None and mask is not None
    expected = torch.zeros(20, 20)
    expected[:10, 10:] = 1
    assert torch.equal(seen[0], expected) and torch.equal(mask[0], expected)
    assert torch.equal(cut.image()[2], expected)
    assert float(view().cropped(Box(500, 0, 8), 8).image().sum()) == 0


def test_whole_box_holds_the_picture() -> None:
    camera = view((60, 40)).camera
    assert frames.whole_box(camera) == Box(0, -10, 60)
    assert frames.whole_box(view((41, 60)).camera) == Box(-10, 0, 60)


def test_head_box_spans_the_radius() -> None:
    camera = perspective(25, 400, 0.3, distance=1.5)
    box = frames.head_box(camera, torch.zeros(3), 0.15)
    assert box == Box(100, 100, 200)
    with pytest.raises(ValueError, match="behind camera"):
        frames.head_box(camera, camera.position - camera.forward, 0.15)


def test_rig_centre_is_where_all_look() -> None:
    centre = torch.tensor([0.1, 1.5, -0.2])
    cameras = [perspective(a, 64, 0.2, 0.9 + a / 500, centre, e) for a, e in ((0, 5), (60, -20), (200, 30))]
    torch.testing.assert_close(frames.rig_centre(cameras), centre, atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="two cameras"):
        frames.rig_centre(cameras[:1])


def instant(**given) -> Frame:
    return Frame("017", "EXP-1-head", 7, view(azimuth=0), [view(azimuth=40), view(azimuth=-70)], **given)


def protocol(**choices) -> Protocol:
    samples = (Sample("017", "EXP-1-head", frames=(7,)),)
    return Protocol("small", "nersemble", samples, "0", size=32, **choices)


def test_standard_views() -> None:
    assert instant().key == "017/EXP-1-head/000007"
    source, targets = frames.standard_views(instant(), protocol(crop="whole"))
    assert [v.camera.id for v in (source, *targets)] == ["0", "40", "-70"]
    assert {v.image().shape for v in (source, *targets)} == {(3, 32, 32)}
    pose = torch.eye(4)
    pose[:3, 3] = POINT[0]
    cases = (
        (instant(head_pose=pose), protocol(crop_centre="head_pose"), None, POINT),
        (instant(rig_centre=POINT[0]), protocol(), None, POINT),
        (instant(), protocol(), None, torch.zeros(1, 3)),  # the cameras at hand look at the origin
        (instant(head_pose=pose), protocol(crop_centre="head_pose"), torch.zeros(3), torch.zeros(1, 3)),
    )
    for frame, choice, centre, point in cases:
        source, targets = frames.standard_views(frame, choice, centre)
        for cut in (source, *targets):
            middle = cut.camera.project(point)[0] - 16
            # whole pixels of the stored picture: half of one at most
            assert middle.abs().max() < 0.51 * 32 / 38, cut.camera.id
    with pytest.raises(OmegaError, match="000007 has no tracked head pose"):
        frames.standard_views(instant(), protocol(crop_centre="head_pose"))


def test_compose() -> None:
    image, mask = torch.full((3, 2, 2), 0.5), torch.tensor([[[0.0, 1.0], [0.5, 1.0]]])
    assert frames.compose(image, mask, "black")[0].tolist() == [[0, 0.5], [0.25, 0.5]]
    assert frames.compose(image, mask, "white")[0].tolist() == [[1, 0.5], [0.75, 0.5]]
    assert frames.compose(image, mask, "keep") is image and frames.compose(image, None, "white") is image


def checkered(size: int) -> tuple[View, torch.Tensor]:
    """A white person in fine stripes before nothing (0), colours not multiplied by the mask; and the mask."""
    mask = (torch.arange(size) % 3 > 0).float().expand(1, size, size).clone()
    camera = perspective(0, size, 0.3)
    return View(camera, lambda: mask.expand(3, -1, -1), lambda: mask, labels=lambda: 14 * mask.long()), mask


def test_rims_are_multiplied_by_the_mask_once() -> None:
    """White on nothing, made smaller: over black each pixel is its share of person, not that squared."""
    view, mask = checkered(96)
    cut = view.cropped(Box(0, 0, 96), 40)
    over_black, over_white = cut.read("black"), cut.read("white")
    share = over_black.mask
    assert share is not None and 0.3 < float(share.min()) < float(share.max()) < 0.9
    torch.testing.assert_close(over_black.over, share.expand(3, 40, 40), atol=1e-5, rtol=0)
    torch.testing.assert_close(over_white.over, torch.ones(3, 40, 40), atol=1e-5, rtol=0)
    keep = view.cropped(Box(0, 0, 96), 40).read("keep")
    assert torch.equal(keep.over, keep.image)
    whole = view.read("black")
    assert torch.equal(whole.over, mask.expand(3, 96, 96)) and whole.seen is None


def test_labels_are_cut_but_never_mixed() -> None:
    view, _ = checkered(96)
    found = view.cropped(Box(-10, 0, 96), 40).labels()
    assert found is not None and found.shape == (1, 40, 40) and set(found.unique().tolist()) == {0, 14}
    assert int(found[:, :, :4].sum()) == 0  # beyond the picture: background
    assert view.cropped(Box(3, 5, 48), 48).labels().sum() == 14 * 48 * 32  # type: ignore[union-attr]


def test_reading_asks_for_each_picture_once() -> None:
    asked: list[str] = []
    plain, mask = checkered(32)

    def image() -> torch.Tensor:
        asked.append("image")
        return plain.image()

    def alpha() -> torch.Tensor:
        asked.append("mask")
        return mask

    View(plain.camera, image, alpha).cropped(Box(0, 0, 32), 16).read("black")
    assert sorted(asked) == ["image", "mask"]


@pytest.mark.parametrize("name", frames.READERS)
def test_readers_have_both_verbs(name: str) -> None:
    module = frames.reader(name)
    assert callable(module.read) and callable(module.freeze)
    assert module.__name__.endswith(frames.READERS[name])  # type: ignore[attr-defined]


def test_an_unknown_set_is_said() -> None:
    with pytest.raises(OmegaError, match="'lfw'"):
        frames.reader("lfw")
