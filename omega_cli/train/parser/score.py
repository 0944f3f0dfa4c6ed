"""How well a parser's labels agree with others: intersection over union of labels and of groups of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from omega_cli.avatar.layout import PARSING_LABELS
from omega_cli.track import parsing as labels
from omega_cli.train.parser import augment, pack

GROUPS = {
    "face": labels.FACE_LABELS,
    "lips": (labels.UPPER_LIP, labels.LOWER_LIP),
    "hair or hat": (labels.HAIR, labels.HAT),
    "person": tuple(range(1, labels.LABELS)),
}
UNKNOWN = 255
Labeller = Callable[[Tensor], Tensor]
"""[3, S, S] in [0, 1] -> labels [S, S]."""


class Table:
    """Counts over pictures: IoU of each label and group, over all pixels (`all`) and as the mean over the
    pictures that show it (`mean`)."""

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[float, float]]] = {}
        self.sets = {name: (number,) for number, name in enumerate(PARSING_LABELS)} | GROUPS

    def add(self, found: Tensor, truth: Tensor) -> None:  # both [S, S]; UNKNOWN truth does not count
        known = truth != UNKNOWN
        pairs = truth[known].long() * labels.LABELS + found[known].long()
        counts = torch.bincount(pairs, minlength=labels.LABELS**2).view(labels.LABELS, -1).double()
        for name, numbers in self.sets.items():
            group = list(numbers)
            both = float(counts[group][:, group].sum())
            either = float(counts[group].sum() + counts[:, group].sum()) - both
            if either:
                self.rows.setdefault(name, []).append((both, either))

    def result(self) -> dict[str, dict[str, float]]:
        out = {}
        for name, pairs in self.rows.items():
            both, either = map(sum, zip(*pairs, strict=True))
            out[name] = {
                "all": round(both / either, 4),
                "mean": round(sum(a / b for a, b in pairs) / len(pairs), 4),
                "pictures": len(pairs),
            }
        return out


Pictures = list[tuple[Tensor, Tensor]]
"""Of each the picture [3, S, S] in [0, 1] and its labels [S, S]."""


def drawn(folder: Path, device: torch.device | str) -> dict[str, Pictures]:
    """The people of a folder (`makers`) by group of files, with backgrounds and damage: the same in every
    run, for all of it is made on the CPU."""
    out: dict[str, Pictures] = {}
    with torch.random.fork_rng(devices=[]):
        for path in sorted(folder.glob("*.npy")):
            samples = torch.from_numpy(np.load(path, allow_pickle=False))
            torch.manual_seed(sum(map(ord, path.stem)))
            batch = augment.of_people(samples, samples.shape[-1], None)
            truth = labels_of(batch.bits)
            truth[batch.hidden] = UNKNOWN
            pictures = zip(batch.seen.to(device), truth, strict=True)
            out.setdefault(path.stem.split("-")[0], []).extend(pictures)
    return out


def photographs(path: Path, device: torch.device | str) -> Pictures:
    """A pack to compare on (`pack.read_compared`)."""
    return [
        (torch.from_numpy(rgb).permute(2, 0, 1).float().to(device) / 255, torch.from_numpy(theirs).long())
        for _, rgb, theirs in pack.read_compared(path)
    ]


def labels_of(bits: Tensor) -> Tensor:  # int [...] -> long [...], UNKNOWN where not just one label may be
    label = torch.log2(bits.clamp_min(1).double()).round().long()
    return torch.where((bits > 0) & (1 << label == bits), label, UNKNOWN)


def score(label: Labeller, pictures: Pictures) -> dict[str, dict[str, float]]:
    """IoU of every label and group that the pictures show."""
    table = Table()
    for picture, truth in pictures:
        table.add(label(picture).cpu(), truth)
    return table.result()
