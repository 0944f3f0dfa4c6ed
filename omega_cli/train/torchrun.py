"""One process or several of torchrun: which one this is, and where it computes."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist

PATIENCE = timedelta(minutes=60)  # others wait as long while the first one scores, or waits for samples


def joined(device: str) -> tuple[torch.device, int, int]:
    """(this process's device, its rank, the number of processes); several are ready to talk then."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    place = torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if device == "cuda" else device)
    if world > 1:
        if place.type == "cuda":
            torch.cuda.set_device(place)
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=PATIENCE)
    return place, rank, world
