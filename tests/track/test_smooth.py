"""Motion over time: gaps, jitter, blinks."""

import numpy as np
from scipy.spatial.transform import Rotation

from omega_cli.track import smooth


def test_gaps_are_bridged_linearly_and_ends_held():
    times = np.arange(6) / 25
    values = np.array([[0.0], [1.0], [99.0], [99.0], [4.0], [99.0]])
    valid = np.array([True, True, False, False, True, False])
    filled = smooth.fill_values(values, times, valid, times)
    assert np.allclose(filled[:, 0], [0, 1, 2, 3, 4, 4])
    assert smooth.gaps(valid) == [(2, 3), (5, 5)] and smooth.gaps(np.ones(3, bool)) == []


def test_rotations_go_the_short_way():
    start, end = Rotation.from_rotvec([0, 3.0, 0]), Rotation.from_rotvec([0, -3.0, 0])
    rotvecs = np.stack([start.as_rotvec(), np.zeros(3), end.as_rotvec()])
    filled = smooth.fill_rotations(rotvecs, np.arange(3.0), np.array([True, False, True]), np.arange(3.0))
    middle = Rotation.from_rotvec(filled[1])
    assert (start.inv() * middle).magnitude() < 0.15  # through π, not back through 0
    once = smooth.fill_rotations(rotvecs, np.arange(3.0), np.array([True, False, False]), np.arange(3.0))
    assert np.allclose(once, rotvecs[0])


def test_smoothing_keeps_lines_has_no_delay_and_calms_jitter():
    fps = 30.0
    t = np.arange(90) / fps
    line = np.stack([np.full(90, 0.3), t], axis=1)
    assert np.allclose(smooth.smooth_values(line, fps, 0.05)[15:-15], line[15:-15], atol=1e-9)
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(2000, 1))
    assert smooth.smooth_values(noise, fps, smooth.POSE_SECONDS).std() < 0.6 * noise.std()
    bump = np.exp(-(((t - 1.5) / 0.2) ** 2))[:, None]
    calm = smooth.smooth_values(bump, fps, smooth.EXPRESSION_SECONDS)
    assert np.allclose(calm, calm[::-1][: len(calm)], atol=1e-6) or calm.argmax() == bump.argmax()
    assert calm.max() > 0.98
    assert np.array_equal(smooth.smooth_values(noise, fps, 0.0), noise)


def test_a_blink_still_closes():
    """Three frames shut at 30 frames/s: the lids' own width keeps them shut, the mouth's would not."""
    blink = np.zeros((60, 1))
    blink[29:32] = 1
    blink[[28, 32]] = 0.5
    widths = smooth.expression_widths(("eyeBlinkLeft", "jawOpen"), 2, 1.0)
    both = smooth.smooth_values(np.repeat(blink, 2, axis=1), 30.0, widths)
    assert both[:, 0].max() > 0.97 and widths[0] < widths[1]


def test_smoothing_rotations_is_about_their_mean():
    generator = np.random.default_rng(1)
    base = Rotation.from_rotvec([0.3, 2.9, 0.1])
    jitter = Rotation.from_rotvec(0.02 * generator.normal(size=(200, 3)))
    rotvecs = (base * jitter).as_rotvec()
    calm = Rotation.from_rotvec(smooth.smooth_rotations(rotvecs, 30.0, 0.1))
    before = (base.inv() * Rotation.from_rotvec(rotvecs)).magnitude().mean()
    assert (base.inv() * calm).magnitude().mean() < 0.5 * before
