"""The self-check's measure."""

from __future__ import annotations

import math

import pytest
import torch

from omega_cli.render import selfcheck


def test_psnr_of_a_known_error():
    target = torch.rand(3, 8, 8) * 0.5
    mask = torch.ones(8, 8, dtype=torch.bool)
    assert selfcheck.psnr(target + 0.1, target, mask) == pytest.approx(20.0, abs=1e-4)
    assert selfcheck.psnr(target, target, mask) == float("inf")
    assert math.isnan(selfcheck.psnr(target, target, ~mask))


def test_only_the_mask_counts():
    target, image = torch.zeros(3, 4, 4), torch.zeros(3, 4, 4)
    image[:, 0] = 1.0
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[1:] = True
    assert selfcheck.psnr(image, target, mask) == float("inf")


def test_compare_sees_holes_and_ignores_cloth():
    parsing = torch.zeros(10, 10, dtype=torch.uint8)
    parsing[2:8, 2:8] = 1
    parsing[8:] = 13
    source = torch.rand(4, 10, 10)
    source[3] = (parsing > 0).float()
    background = torch.tensor([0.8, 0.8, 0.8])
    alpha = (parsing == 1).float()
    same = source[:3] * alpha + background[:, None, None] * (1 - alpha)
    whole = selfcheck.compare_with_source(same, alpha, source, parsing, background)
    assert whole["psnr_head"] == whole["psnr_face"] == float("inf")
    assert whole["silhouette_iou"] == 1.0
    holed, gone = same.clone(), alpha.clone()
    holed[:, 4:6, 4:6], gone[4:6, 4:6] = 0.8, 0.0
    metrics = selfcheck.compare_with_source(holed, gone, source, parsing, background)
    assert metrics["psnr_head"] < 30
    assert metrics["silhouette_iou"] == pytest.approx(32 / 36)


def test_the_head_is_one_piece():
    """A patch that the parser calls hair, away from the head, is not the head."""
    parsing = torch.zeros(12, 12, dtype=torch.uint8)
    parsing[1:3, 2:7] = 14
    parsing[3:7, 3:6] = 1
    parsing[9:11, 8:12] = 14
    mask = selfcheck.head_mask(parsing, torch.ones(12, 12, dtype=torch.bool))
    assert mask.sum() == 10 + 12 and not mask[9:].any()
