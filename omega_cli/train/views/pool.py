"""Samples that other processes write, kept in memory as they come."""

from __future__ import annotations

import queue
import threading
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from omega_cli.train.views.samples import PLANES


class Pool:
    """uint8 samples [capacity, planes, size, size] on a device, filled from a folder's .npy files.

    A file is one sample, or several [n, planes, size, size]. `kind` [n]: 1 where only the front view is
    known (a photograph: files named front-*). Full, it forgets the oldest.
    """

    def __init__(
        self, folder: Path, capacity: int, size: int, device: torch.device | str, planes: int = PLANES
    ) -> None:
        self.folder, self.capacity = folder, capacity
        self.samples = torch.zeros(capacity, planes, size, size, dtype=torch.uint8, device=device)
        self.front_only = torch.zeros(capacity, dtype=torch.bool)  # on the CPU, which draws
        self.added = 0
        self._come: queue.Queue[tuple[bool, Tensor]] = queue.Queue(maxsize=64)
        threading.Thread(target=self._read, daemon=True).start()

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def _read(self) -> None:
        """A thread's work: new files, as they appear, into the queue."""
        seen: set[str] = set()
        while True:
            for path in sorted(p for p in self.folder.glob("*.npy") if p.name not in seen):
                seen.add(path.name)
                values = torch.from_numpy(np.load(path, allow_pickle=False))
                self._come.put((path.name.startswith("front"), values))
            time.sleep(0.2)

    def refresh(self) -> int:
        """Take in what has been read since; how many samples came."""
        before = self.added
        while not self._come.empty():
            front, values = self._come.get()
            for sample in values if values.ndim == 4 else values[None]:
                slot = self.added % self.capacity
                self.samples[slot].copy_(sample)
                self.front_only[slot] = front
                self.added += 1
        return self.added - before

    def draw(self, count: int, generator: torch.Generator, front_share: float) -> tuple[Tensor, Tensor]:
        """uint8 [count, ...] and front_only [count]: about `front_share` of them photographs."""
        known = self.front_only[: len(self)]
        photos, people = torch.nonzero(known)[:, 0], torch.nonzero(~known)[:, 0]
        wanted = int(round(count * front_share)) if len(photos) else 0
        picks = []
        for group, n in ((photos, wanted), (people, count - wanted)):
            if n:
                picks.append(group[torch.randint(len(group), (n,), generator=generator)])
        index = torch.cat(picks)
        device = self.samples.device
        return self.samples[index.to(device)], self.front_only[index].to(device)
