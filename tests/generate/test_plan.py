"""What generate decides: which steps, in which order, run or kept."""

from __future__ import annotations

import itertools

import pytest

from omega_cli.generate import pipeline


def test_steps_run_from_photo_to_film():
    assert pipeline.NAMES == ("track", "mv-diffuse", "deform-flame", "splat-uv", "decode", "render")
    assert [s.name for s in pipeline.chosen_steps("splat-uv", "decode")] == ["splat-uv", "decode"]
    assert len(pipeline.chosen_steps(None, None)) == 6
    for i, j in itertools.product(range(6), range(6)):
        names = pipeline.NAMES[i], pipeline.NAMES[j]
        if i > j:
            with pytest.raises(ValueError, match="comes after"):
                pipeline.chosen_steps(*names)
        else:
            assert [s.name for s in pipeline.chosen_steps(*names)] == list(pipeline.NAMES[i : j + 1])


@pytest.mark.parametrize("state", ["fresh", "stale", "edited", "missing", "damaged"])
@pytest.mark.parametrize("asked", [False, True])
def test_edited_work_is_overwritten_by_force_alone(state: str, asked: bool):
    assert pipeline.decide(state, asked=asked, force=True) == "run"
    kept = pipeline.decide(state, asked=asked, force=False)
    if state == "edited":
        assert kept == "edited"
    elif state == "fresh":
        assert kept == ("run" if asked else "fresh")
    else:
        assert kept == "run"
