"""Whether a person that is measured was among those that the weights were trained on.

Weights say so themselves: a safetensors file's metadata has `trained_on`, a JSON list of "set/identity"
patterns (`fnmatch`: "nersemble/0*", "ava256/*"). A file without it was trained on none of our sets
or does not say; which of the two, its entry in the registry has to tell.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from omega_cli import weights
from omega_cli.avatar import freshness, layout
from omega_cli.avatar.layout import Avatar
from omega_cli.errors import OmegaError

KEY = "trained_on"


def trained_on(path: Path) -> tuple[str, ...]:
    """Patterns in a weight file's own metadata; () where it has none. Raises OmegaError where they are no
    list of texts."""
    if path.suffix != ".safetensors":
        return ()
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        text = (file.metadata() or {}).get(KEY)
    if text is None:
        return ()
    try:
        patterns = json.loads(text)
    except ValueError:
        patterns = None
    if not isinstance(patterns, list) or not all(isinstance(p, str) for p in patterns):
        raise OmegaError(
            f"{path}: its metadata {KEY} is no JSON list of texts.", 'Write it like ["nersemble/0*"].'
        )
    return tuple(patterns)


def matches(dataset: str, identity: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns means this person."""
    return any(fnmatch.fnmatchcase(f"{dataset}/{identity}", pattern) for pattern in patterns)


def seen_by(dataset: str, identity: str, files: Sequence[Path]) -> list[str]:
    """Names of the weight files that were trained on this person."""
    return [path.name for path in files if matches(dataset, identity, trained_on(path))]


def weights_of(avatar: Avatar) -> list[Path]:
    """Weight files that the avatar's stages say they used, and that are here."""
    names: dict[str, None] = {}
    for folder in layout.STAGE_OF_FOLDER:
        if (avatar.folder(folder) / layout.STAGE).is_file():
            names |= dict.fromkeys(freshness.read_stage(avatar.folder(folder)).get("weights", {}))
    known = weights.registry()
    found = [weights.find(name) for name in names if name in known]
    return [path for path in found if path is not None]
