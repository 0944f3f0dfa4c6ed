"""The room's maths may not read avatar/, so it spells the parsing's labels itself: they must agree."""

import pytest

from omega_cli.avatar.layout import PARSING_LABELS
from omega_cli.mv_diffuse import texture


@pytest.mark.parametrize(
    "name", ["skin", "eyes", "ears", "nose", "mouth_inside", "neck", "cloth", "hair", "hat"]
)
def test_labels_are_those_of_the_parsing(name: str):
    assert PARSING_LABELS[getattr(texture, name.upper())] == name
