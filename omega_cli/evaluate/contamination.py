"""Whether a person that is measured was among those that the weights were trained on.

Weights say so themselves: a safetensors file's metadata has `trained_on`, a JSON list of "set/identity"
patterns (`fnmatch`: "nersemble/0*", "ava256/*"), and `held_out`, the same for exceptions (there an identity
may stand alone). A file without them was trained on none of our sets or does not say; which of the two,
its entry in the registry has to tell.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from omega_cli import weights
from omega_cli.avatar import freshness, layout
from omega_cli.avatar.layout import Avatar
from omega_cli.errors import OmegaError

TRAINED_ON, HELD_OUT = "trained_on", "held_out"


def claims(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Patterns (trained on, held out) in a weight file's own metadata; () where it has none.

    Raises OmegaError where they are no list of texts.
    """
    if path.suffix != ".safetensors":
        return (), ()
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata() or {}
    return _patterns(metadata, TRAINED_ON, path), _patterns(metadata, HELD_OUT, path)


def _patterns(metadata: Mapping[str, str], key: str, path: Path) -> tuple[str, ...]:
    try:
        patterns = json.loads(metadata.get(key, "[]"))
    except ValueError:
        patterns = None
    if not isinstance(patterns, list) or not all(isinstance(p, str) for p in patterns):
        raise OmegaError(
            f"{path}: its metadata {key} is no JSON list of texts.", 'Write it like ["nersemble/0*"].'
        )
    return tuple(patterns)


def matches(dataset: str, identity: str, trained: Iterable[str], held_out: Iterable[str] = ()) -> bool:
    """Whether the patterns mean this person."""
    person = f"{dataset}/{identity}"
    if any(fnmatch.fnmatchcase(person if "/" in p else identity, p) for p in held_out):
        return False
    return any(fnmatch.fnmatchcase(person, pattern) for pattern in trained)


def seen_by(dataset: str, identity: str, files: Sequence[Path]) -> list[str]:
    """Names of the weight files that were trained on this person."""
    return [path.name for path in files if matches(dataset, identity, *claims(path))]


def weights_of(avatar: Avatar, *more: str) -> list[Path]:
    """Weight files that the avatar's stages say they used, and `more`, as far as they are here: by the
    registry's name, or by path where they are the user's own."""
    names: dict[str, None] = {}
    for folder in layout.STAGE_OF_FOLDER:
        if (avatar.folder(folder) / layout.STAGE).is_file():
            names |= dict.fromkeys(freshness.read_stage(avatar.folder(folder)).get("weights", {}))
    known = weights.registry()
    names |= dict.fromkeys(more)
    found = [weights.find(name) if name in known else Path(name) for name in names]
    return [path for path in found if path is not None and path.is_file()]
