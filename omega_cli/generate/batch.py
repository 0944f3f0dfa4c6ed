"""Several pictures: which avatar folder each gets. Pure path names, nothing is read but folder lists."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from omega_cli.errors import OmegaError

PICTURES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".heic", ".avif", ".jfif")
)


def collect(images: list[Path]) -> tuple[list[Path], bool]:
    """(pictures, whether they are a batch). A folder stands for the pictures in it, by their suffix."""
    found: list[Path] = []
    batch = len(images) > 1
    for path in images:
        if not path.is_dir():
            found.append(path)
            continue
        batch = True
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES and p.is_file())
        if not inside:
            raise OmegaError(f"{path}/ holds no pictures.", "Give pictures, or a folder of pictures.")
        found += inside
    return list(dict.fromkeys(found)), batch


def avatar_names(pictures: list[Path]) -> list[str]:
    """One folder name a picture: its stem, with suffix or parent added where stems clash.

    Depends on the set of pictures only, so that a batch run again finds its own folders.
    """
    names = [p.stem for p in pictures]
    for longer in (
        lambda p: f"{p.stem}-{p.suffix.lstrip('.').lower()}",
        lambda p: f"{p.parent.name}-{p.stem}-{p.suffix.lstrip('.').lower()}",
    ):
        count = Counter(name.lower() for name in names)
        names = [
            longer(p) if count[name.lower()] > 1 else name for p, name in zip(pictures, names, strict=True)
        ]
    twice = [name for name, n in Counter(name.lower() for name in names).items() if n > 1]
    if twice:
        raise OmegaError(
            f"Several pictures would become the avatar {twice[0]!r}.", "Give them different names."
        )
    return names
