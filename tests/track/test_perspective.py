"""The focal length that landmarks tell."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from omega_cli.head.assets import load_head
from omega_cli.head.params import HeadParams
from omega_cli.track.fit import State, View, _pixels
from omega_cli.track.identity import HeadFitter
from omega_cli.track.landmarks import Face
from omega_cli.track.observe import FOCAL, SIZE, source_camera
from omega_cli.track.perspective import MOST, SPREAD, STEP, USUAL, most_likely_focal, moved_back, seen_with


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def fitter(head) -> HeadFitter:
    return HeadFitter(head)


def photographed(head, focal: float, seed: int, noise: float) -> Face:
    """A random person's exact landmarks through the source camera of that focal length, and noise of so much
    of the face's size."""
    generator = torch.Generator().manual_seed(seed)
    betas = 0.8 * torch.randn(head.S, generator=generator)
    turn = torch.tensor([[0.05, 0.15, 0.0]])
    params = HeadParams.zeros(head.S, head.E).replace(betas=betas, global_orient=turn)
    points = head.landmark_points(head(params).vertices[0], "mediapipe478").double().numpy()
    K, viewmat = source_camera(focal)
    empty = View(np.zeros((1, 2)), np.zeros((1, 2, 2)), np.zeros(0), np.ones(0), K, viewmat)
    pixels = _pixels(points, empty)[0]
    pixels += noise * np.ptp(pixels[:, 1]) * np.random.default_rng(seed).normal(size=pixels.shape)
    return Face(pixels, np.zeros(478), np.zeros(52), np.eye(3))


def test_the_focal_length_is_read_off_landmarks(head, fitter) -> None:
    """Of twelve people from 0.5 to 2.5 m it is known twice as well as by a guess of one for all."""
    true = [640, 1000, 1600, 3200] * 3
    faces = [photographed(head, f, k, 0.004) for k, f in enumerate(true)]
    found = [fitter.fit_any_lens(face, None).focal for face in faces]
    off = np.log(np.array(found) / true)
    guess = np.log(USUAL / np.array(true))
    assert np.sqrt((off**2).mean()) < 0.5 * np.sqrt((guess**2).mean())
    assert np.corrcoef(np.log(found), np.log(true))[0, 1] > 0.9


def test_unasked_every_picture_has_the_usual_camera(head, fitter) -> None:
    face = photographed(head, 3000.0, 0, 0.0)
    assert fitter.fit([face], [None]).focal == fitter.fit([face, face], [None, None]).focal == FOCAL
    assert fitter.fit_any_lens(face, None).error_px < fitter.fit([face], [None]).error_px


@pytest.mark.parametrize("off", [-0.8, -0.3, 0.0, 0.1, 0.6])
def test_cost_and_prior_meet_in_between(off: float) -> None:
    """Parabolas add up: the prior weighs 1 / SPREAD², the cost 9."""
    asked = []

    def cost(focal: float) -> float:
        asked.append(focal)
        return 9 * (math.log(focal / USUAL) - off) ** 2 + 7

    expected = 9 * off / (9 + 1 / SPREAD**2)
    assert math.log(most_likely_focal(cost) / USUAL) == pytest.approx(expected, abs=1e-9)
    assert len(asked) == len(set(asked)) <= 2 * MOST


@pytest.mark.parametrize("side", [-1, 1])
def test_it_stays_between_a_selfie_and_a_long_lens(side: int) -> None:
    found = most_likely_focal(lambda focal: -100 * side * math.log(focal))
    assert found == pytest.approx(USUAL * math.exp(side * MOST * STEP))


def test_what_stands_at_the_origin_is_as_large_from_any_distance() -> None:
    K, viewmat = source_camera()
    view = View(np.zeros((1, 2)), np.zeros((1, 2, 2)), np.zeros(0), np.ones(0), K, viewmat)
    flat = np.array([[0.1, -0.05, 0.0], [0.0, 0.12, 0.0]])
    far = seen_with(view, 3000.0)
    assert np.allclose(_pixels(flat, view)[0], _pixels(flat, far)[0])
    assert (far.K[0, 0], far.K[0, 2]) == (3000.0, SIZE / 2)
    state = State(np.eye(3), np.array([0.02, 0.01, -0.04]), np.zeros(0))
    there = moved_back(state, 3000.0 / FOCAL).position[None]
    assert np.allclose(_pixels(state.position[None], view)[0], _pixels(there, far)[0])
