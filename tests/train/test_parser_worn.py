"""What photographs in the parser's training are made to wear: labels and pixels change together."""

from __future__ import annotations

import numpy as np
import pytest
from train.faces import painted

from omega_cli.track import parsing as labels
from omega_cli.train.parser import pack, partial, worn

HAT, SKIN, GLASSES = (partial.bits(label) for label in (labels.HAT, labels.SKIN, labels.GLASSES))


@pytest.fixture(scope="module")
def known() -> tuple[pack.Portrait, np.ndarray]:
    """Short dark hair above a lit face."""
    one, _ = painted(False)
    return one, partial.allowed_labels(one)


def changed(a: pack.Portrait, b: pack.Portrait) -> np.ndarray:
    return abs(a.rgb.astype(int) - b.rgb).max(2) > 3


@pytest.mark.parametrize("seed", range(8))
def test_only_what_is_worn_changes(known, seed):
    """Pixels far from new labels stay, new labels lie where something was painted or may be skin."""
    one, bits = known
    out, told = worn.dressed(one, bits, np.random.default_rng(seed))
    new = told != bits
    assert new.mean() > 0.01 and (told[~one.photo] == 0).all()
    assert not (changed(out, one) & one.photo & ~partial.grown(new, 5)).any()
    again, same = worn.dressed(one, bits, np.random.default_rng(seed))
    assert np.array_equal(again.rgb, out.rgb) and np.array_equal(same, told)


def test_spectacles_are_one_label_lenses_and_all(known):
    one, bits = known
    out, told = worn.with_spectacles(one, bits, np.random.default_rng(1))
    for part in partial.EYES:
        x, y = one.points[list(part)].mean(0).astype(int)
        assert told[y, x] == GLASSES
    x, y = one.points[partial.NOSE_TIP].astype(int)
    assert told[y, x] == bits[y, x] != GLASSES
    assert changed(out, one)[told == GLASSES].mean() > 0.1


def test_a_hat_hides_hair_and_a_scarf_the_neck_too(known):
    one, bits = known
    at = partial.places(one)
    above = (at.inside < -0.05 * at.size) & (at.inside > -0.12 * at.size) & one.photo
    cap, told = worn.with_hat(one, bits, np.random.default_rng(2))
    assert (told[above & (at.down < at.brows - 0.4 * at.size)] == HAT).all()
    assert (cap.matte[told == HAT] == 1).all()
    low = (at.down > at.nose) & (bits > 0)
    assert np.array_equal(told[low], bits[low])
    _, told = worn.with_scarf(one, bits, np.random.default_rng(2))
    assert (told[above & (at.down < at.nose)] == HAT).mean() > 0.9
    below = (at.down > at.chin + 0.2 * at.size) & (abs(at.across) < 0.2 * at.size) & one.photo
    assert (told[below] == partial.bits(labels.HAT, labels.CLOTH)).all()


def test_a_bald_crown_is_skin_of_the_foreheads_colour(known):
    one, bits = known
    at = partial.places(one)
    out, told = worn.with_bald_crown(one, bits, np.random.default_rng(3))
    crown = (told == SKIN) & (bits == partial.bits(labels.HAIR, labels.HAT)) & (at.inside < 0)
    assert crown.sum() > 0.05 * at.size**2
    forehead = (at.inside > 0.1 * at.size) & (at.down < at.brows) & (told == SKIN)
    lit = [float(np.median(out.rgb[mask])) for mask in (crown, forehead)]
    assert abs(lit[0] - lit[1]) < 40 < abs(float(np.median(one.rgb[crown])) - lit[1])
    wide = one.matte.copy()
    wide[: int(at.brows)] = 1  # hair far from the head: as it was
    big = pack.Portrait(one.name, one.rgb, wide, one.points, one.photo)
    assert np.array_equal(worn.with_bald_crown(big, bits, np.random.default_rng(3))[1], bits)
