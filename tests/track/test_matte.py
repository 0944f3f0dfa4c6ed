"""The matte on pictures whose alpha is known; edge colours freed of the background."""

import numpy as np
import pytest

from omega_cli.track import matte
from omega_cli.track import parsing as labels

SIZE = 256


@pytest.fixture(scope="module")
def scene():
    """A red-brown striped disc with a soft edge and fine strands, over a smooth blue-green background."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    radius = np.hypot(x - SIZE / 2, y - SIZE / 2)
    angle = np.arctan2(y - SIZE / 2, x - SIZE / 2)
    strands = 4 * np.sin(24 * angle)
    alpha = np.clip((80 + strands - radius) / 3 + 0.5, 0, 1).astype(np.float32)
    foreground = np.stack([0.55 + 0.1 * np.sin(x / 3), 0.3 + 0.05 * np.sin(x / 3), 0.2 + 0 * x], axis=2)
    background = np.stack([0.3 + 0.1 * x / SIZE, 0.7 + 0 * x, 0.8 - 0.1 * y / SIZE], axis=2)
    image = alpha[..., None] * foreground + (1 - alpha[..., None]) * background
    rgb = (image * 255 + 0.5).astype(np.uint8)
    coarse = np.clip((80 - radius) / 12 + 0.5, 0.02, 0.98)  # what the networks know: no strands
    probabilities = np.zeros((labels.LABELS, SIZE, SIZE), np.float32)
    probabilities[labels.HAIR], probabilities[labels.BACKGROUND] = coarse, 1 - coarse
    return rgb, alpha, foreground, probabilities, coarse.astype(np.float32)


def solved(scene):
    rgb, _, _, probabilities, coarse = scene
    everywhere = np.ones((SIZE, SIZE), bool)
    return matte.solve_matte(rgb, probabilities, coarse, (100, 100, 156, 156), everywhere)


def test_strands_come_from_the_picture(scene):
    _, alpha, _, _, coarse = scene
    found = solved(scene)
    edge = (alpha > 0.01) & (alpha < 0.99)
    assert np.abs(found - alpha).mean() < 0.01
    guess = np.abs(coarse - alpha)[edge].mean()
    assert np.abs(found - alpha)[edge].mean() < 0.5 * guess
    assert (found[alpha == 0] < 0.02).mean() > 0.99 and (found[alpha == 1] > 0.95).mean() > 0.9


def test_edge_colours_lose_the_background(scene):
    rgb, alpha, foreground, _, _ = scene
    clean = matte.clean_foreground(rgb, alpha).astype(np.float32) / 255
    edge = (alpha > 0.2) & (alpha < 0.8)
    before = np.abs(rgb / 255.0 - foreground)[edge].mean()
    assert np.abs(clean - foreground)[edge].mean() < 0.35 * before
    inside = alpha == 1
    assert np.abs(clean - rgb / 255.0)[inside].max() < 0.006  # the person's own pixels are untouched
    outside = alpha == 0
    assert np.abs(clean - foreground)[outside].mean() < 0.15  # hair colour goes on, for resampling


def test_laplacian_ignores_what_colour_explains(scene):
    """Alpha that is linear in colour costs nothing, a step in flat colour does."""
    rgb = scene[0].astype(np.float32) / 255
    operator = matte._MattingLaplacian(rgb, 1)
    linear = rgb @ np.array([0.2, -0.5, 0.7], np.float32) + 0.1
    assert np.abs(operator(linear)).max() < 0.02
    assert np.abs(operator(np.ones_like(linear))).max() < 1e-4
    step = (np.mgrid[0:SIZE, 0:SIZE][1] > 20).astype(np.float32)
    assert np.abs(operator(step)).max() > 0.1


def test_only_the_person_at_the_face_is_kept():
    alpha = np.zeros((SIZE, SIZE), np.uint8)
    alpha[80:180, 80:180] = 255
    alpha[20:50, 200:240] = 255  # somebody else
    kept = matte.given_matte(alpha, (130, 130), np.ones((SIZE, SIZE), bool))
    assert (kept[80:180, 80:180] == 1).all() and kept[20:50, 200:240].max() == 0


def test_beyond_the_photo_there_is_nobody(scene):
    rgb, _, _, probabilities, coarse = scene
    photo = np.ones((SIZE, SIZE), bool)
    photo[:, 150:] = False
    found = matte.solve_matte(rgb, probabilities, coarse, (100, 100, 140, 156), photo)
    assert found[:, 150:].max() == 0 and found[128, 100] == 1


def test_a_frame_is_no_cut_out(scene):
    probabilities = scene[3]
    frame = np.zeros((SIZE, SIZE), np.float32)
    frame[10:-10, 10:-10] = 1
    assert matte.holds_background(frame, probabilities)
    assert not matte.holds_background(scene[1], probabilities)


def test_what_no_witness_sees_is_hair_only_where_the_parser_is_sure():
    """A wall and a collar like hair go; sure hair and what the saliency sees stay. A saliency that sees
    little of the hair says nothing above the eyes."""
    said = np.full((labels.LABELS, 2, 4), 1e-3, np.float32)
    said[labels.HAIR] = 0.8, 0.7, 0.99, 0.8
    said[labels.BACKGROUND] = 0.18, 0, 0.001, 0.18
    said[labels.CLOTH, :, 1] = 0.28
    said /= said.sum(0)
    seen = np.tile(np.array([[0.0, 0.05, 0.0, 0.5]], np.float32), (2, 1))
    doubted = [labels.BACKGROUND, labels.CLOTH, labels.HAIR, labels.HAIR]
    told = matte.doubted_hair(said, seen, 0.5)
    assert told.argmax(0)[1].tolist() == doubted
    assert np.allclose(told.sum(0), 1) and np.allclose(told[..., 3], said[..., 3])
    assert np.allclose(told[:, 0], said[:, 0])
    seen_hair = np.concatenate([seen, np.ones((20, 4), np.float32)])
    more = np.concatenate([said, np.repeat(said[:, :1], 20, 1)], 1)
    told = matte.doubted_hair(more, seen_hair, 30)
    assert told.argmax(0)[0].tolist() == doubted
