"""What the work takes: time by part, and the memory of that part alone."""

from __future__ import annotations

import sys

import pytest
import torch

from omega_cli.evaluate import meter
from omega_cli.evaluate.meter import Meter


def test_parts_add_up_and_stages_report_themselves() -> None:
    own = Meter()
    own.stage_done("decode", "", "", 1.5)
    own.stage_done("decode", "", "", 0.5)
    with own.part("truth"):
        sum(range(1000))
    found = own.record()
    assert found["decode"]["seconds"] == 2.0 and 0 < found["truth"]["seconds"] + 1e-3 < 1
    assert list(found) == ["decode", "truth"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is reset through /proc")
def test_a_peak_belongs_to_its_part() -> None:
    """400 MB that are filled and freed in one part are not the next one's."""
    own = Meter()
    with own.part("large"):
        torch.ones(100 << 20).sum()
    meter.give_back()
    with own.part("small"):
        torch.ones(1 << 10).sum()
    found = own.record()
    assert found["large"]["peak_mb"] > found["small"]["peak_mb"] + 350
