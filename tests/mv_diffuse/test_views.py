"""The sign of azimuth is fixed here: an asymmetric point set seen by the six cameras."""

import pytest
import torch

from omega_cli.mv_diffuse.views import CANONICAL_VIEWS, VIEW_CENTRE, canonical_cameras

NOSE, LEFT_EAR, BACK = torch.tensor([[0.0, 0, 0.1], [0.08, 0, 0], [0.0, 0, -0.1]]) + VIEW_CENTRE


def seen(view: str, point: torch.Tensor) -> tuple[float, float]:
    camera = dict(zip(CANONICAL_VIEWS, canonical_cameras(512, 0.2), strict=True))[view]
    pixels, depth = camera.project(point)
    return float(pixels[0]) - 256, float(depth)


def test_front_view_has_the_subjects_left_on_the_image_right_and_the_nose_nearest():
    assert seen("000", LEFT_EAR)[0] == pytest.approx(0.08 / 0.4 * 512, abs=1e-3)
    assert seen("000", NOSE)[1] < seen("000", LEFT_EAR)[1] < seen("000", BACK)[1]


def test_090_sees_the_left_ear_with_the_nose_to_the_image_left():
    assert seen("090", LEFT_EAR)[1] < seen("090", NOSE)[1]
    assert seen("090", NOSE)[0] < 0


def test_270_mirrors_090_and_180_sees_the_back():
    assert seen("270", NOSE)[0] == pytest.approx(-seen("090", NOSE)[0], abs=1e-3)
    assert seen("180", BACK)[1] < seen("180", NOSE)[1]
    assert seen("180", LEFT_EAR)[0] < 0


def test_045_shows_the_left_cheek():
    assert seen("045", LEFT_EAR)[1] < seen("315", LEFT_EAR)[1]
