"""One process or several of torchrun: which one this is, and where it computes.

Several may share a GPU: a small network's step is a thousand small kernels, which one process cannot start as
fast as a large GPU ends them.
"""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist

from omega_cli.errors import OmegaError

PATIENCE = timedelta(minutes=60)  # others wait as long while the first one scores, or waits for samples


def joined(device: str) -> tuple[torch.device, int, int]:
    """(this process's device, its rank, the number of processes); several are ready to talk then."""
    rank, world, local = (
        int(os.environ.get(name, default))
        for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    place, alone = torch.device(device), False
    if device == "cuda":
        gpus = max(1, torch.cuda.device_count())
        place, alone = torch.device(f"cuda:{local % gpus}"), here <= gpus
        if here < world and not alone:  # one machine's answer would not be another's
            raise OmegaError(
                f"{here} processes share {gpus} GPUs on one of several machines.",
                "Start one process for each GPU: --nproc-per-node.",
            )
    if world > 1:
        if place.type == "cuda":
            torch.cuda.set_device(place)
        dist.init_process_group("nccl" if alone else "gloo", timeout=PATIENCE)  # NCCL wants GPUs of its own
    return place, rank, world
