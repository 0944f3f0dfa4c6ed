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
from omega_cli.track.perspective import (
    MOST,
    SPREAD,
    STEP,
    USUAL,
    chooser,
    most_likely_focal,
    moved_back,
    seen_with,
)


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def fitter(head) -> HeadFitter:
    return HeadFitter(head)


def person(head, seed: int) -> HeadParams:
    """A random person, a little turned."""
    generator = torch.Generator().manual_seed(seed)
    betas = 0.8 * torch.randn(head.S, generator=generator)
    turn = torch.tensor([[0.05, 0.15, 0.0]])
    return HeadParams.zeros(head.S, head.E).replace(betas=betas, global_orient=turn)


def drawn(points: torch.Tensor, focal: float) -> np.ndarray:
    """Points [L, 3] through the source camera of that focal length, px [L, 2]."""
    K, viewmat = source_camera(focal)
    empty = View(np.zeros((1, 2)), np.zeros((1, 2, 2)), np.zeros(0), np.ones(0), K, viewmat)
    return _pixels(points.double().numpy(), empty)[0]


def photographed(head, focal: float, seed: int, noise: float) -> Face:
    """A random person's exact landmarks through the source camera of that focal length, and noise of so much
    of the face's size."""
    vertices = head(person(head, seed)).vertices[0]
    pixels = drawn(head.landmark_points(vertices, "mediapipe478"), focal)
    pixels += noise * np.ptp(pixels[:, 1]) * np.random.default_rng(seed).normal(size=pixels.shape)
    return Face(pixels, np.zeros(478), np.zeros(52), np.eye(3))


def test_the_focal_length_is_read_off_landmarks(head, fitter) -> None:
    """Of twelve people from 0.5 to 2.5 m it is known twice as well as by a guess of one for all."""
    true = [640, 1000, 1600, 3200] * 3
    faces = [photographed(head, f, k, 0.004) for k, f in enumerate(true)]
    found = [fitter.fit([face], [None], choose=most_likely_focal).focal for face in faces]
    off = np.log(np.array(found) / true)
    guess = np.log(USUAL / np.array(true))
    assert np.sqrt((off**2).mean()) < 0.5 * np.sqrt((guess**2).mean())
    assert np.corrcoef(np.log(found), np.log(true))[0, 1] > 0.9


def test_unasked_every_picture_has_the_usual_camera(head, fitter) -> None:
    face = photographed(head, 3000.0, 0, 0.0)
    assert fitter.fit([face], [None]).focal == fitter.fit([face, face], [None, None]).focal == FOCAL
    assert fitter.fit([face], [None], choose=most_likely_focal).error_px < fitter.fit([face], [None]).error_px


def test_a_known_focal_length_beats_one_that_is_found(head, fitter) -> None:
    """Where the scalp lies, of which no landmark tells, in photos of twelve people from 0.4 to 2.5 m."""
    errors = []
    for k, true in enumerate([512, 640, 1000, 1600, 2400, 3200] * 2):
        face = photographed(head, true, k, 0.004)
        scalp = drawn(head(person(head, k)).vertices[0][head.regions["scalp"]], true)
        fits = (
            fitter.fit([face], [None], choose=chooser(true)),
            fitter.fit([face], [None], choose=chooser(None)),
            fitter.fit([face], [None]),
        )
        assert fits[0].focal == pytest.approx(true)
        heads = [head(fitter.params(fit.betas, fit.states)).vertices[0] for fit in fits]
        there = [drawn(v[head.regions["scalp"]], fit.focal) for v, fit in zip(heads, fits, strict=True)]
        errors.append([np.linalg.norm(pixels - scalp, axis=1).mean() for pixels in there])
    known, found, usual = np.mean(errors, axis=0)  # px of 512
    assert known < 0.8 * found < 0.4 * usual and known < 3


def test_a_known_focal_length_is_reached_in_one_leap(head, fitter) -> None:
    """The search goes there step by step; the solver alone ends at the same fit, from 478 points or 68."""
    for k, true in enumerate((550, 3200)):
        face = photographed(head, true, k, 0.0)
        found = fitter.fit([face], [None], choose=chooser(None))
        again = fitter.fit([face], [None], choose=chooser(found.focal))
        assert again.focal == pytest.approx(found.focal, rel=1e-12)
        assert np.abs(again.projected[0] - found.projected[0]).max() < 0.5
        assert again.error_px == pytest.approx(found.error_px, abs=0.02)
        points68 = drawn(head.landmark_points(head(person(head, k)).vertices[0], "ibug68"), true)
        known = fitter.fit_points68(points68, np.ones(68), face, None, chooser(true))
        assert known.focal == pytest.approx(true)
        assert known.error_px < fitter.fit_points68(points68, np.ones(68), face, None).error_px


def test_a_known_focal_length_stays_where_the_search_does() -> None:
    ends = [most_likely_focal(lambda focal, s=side: -100 * s * math.log(focal)) for side in (-1, 1)]
    for known, kept in ((100.0, ends[0]), (506.0, ends[0]), (508.0, 508.0), (4100.0, 4100.0), (1e5, ends[1])):
        assert chooser(known)(lambda focal: 0.0) == pytest.approx(kept)
    assert chooser(None) is most_likely_focal


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
