"""The fixed samples that a run is scored on, and pictures of what it makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from omega_cli.data.studio.look import sample_look
from omega_cli.data.studio.people import generator
from omega_cli.metrics.lpips import Lpips
from omega_cli.mv_diffuse.conditioning import base_of, network_input
from omega_cli.mv_diffuse.network import ViewNet
from omega_cli.train.views.samples import unpacked
from omega_cli.train.views.score import measures, table

HELD_OUT = (
    "Asian_F_3", "Black_F_2", "X_NHPI_F_3", "Asian_M_2", "Black_M_3", "Hispanic_F_1", "MENA_M_2", "White_M_3",
)  # fmt: skip
"""VALID heads that no training with --hold-out sees; the first three wear wigs."""

HARD = (
    "afro", "curls", "coils", "high top", "bun", "ponytail", "plait", "braid", "cornrows", "locs", "bald",
)  # fmt: skip
FIRST_HARD = 90_000_000  # seeds from here on are never trained on


def tasks(heads: int, hair: int, names: Sequence[str] = HELD_OUT) -> list[tuple[str, str | int, int]]:
    """(file name, head or seed, photo number) of every scored sample."""
    out: list[tuple[str, str | int, int]] = [
        (f"head-{name}-{k}", name, k) for name in names for k in range(heads)
    ]
    seed = FIRST_HARD
    while sum(1 for task in out if task[0].startswith("hair")) < hair:
        look = sample_look(generator(seed, 1))
        if any(word in look.style for word in HARD) or look.beard not in ("none", "stubble", ""):
            out.append((f"hair-{seed}", seed, 0))
        seed += 1
    return out


@torch.no_grad()
def predicted(net: ViewNet | None, sample: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """uint8 [B, PLANES, h, w] -> (views [B, 6, 7, h, w], truth, photo); no net: the lift itself."""
    lift, photo, truth = unpacked(sample)
    base = base_of(lift)
    if net is None:
        return base, truth, photo
    with torch.autocast(sample.device.type, torch.bfloat16, enabled=sample.is_cuda):
        residual = net(network_input(lift, photo))
    return base + residual.float(), truth, photo


def score(net: ViewNet | None, folder: Path, lpips: Lpips, device: torch.device | str) -> dict:
    """Tables of the samples in `folder`: {"heads": ..., "hair": ...}."""
    out = {}
    for group in ("head", "hair"):
        paths = sorted(folder.glob(f"{group}-*.npy"))
        if not paths:
            continue
        found: dict[str, list[Tensor]] = {}
        for path in paths:
            sample = torch.from_numpy(np.load(path, allow_pickle=False))[None].to(device)
            views, truth, _ = predicted(net, sample)
            for name, values in measures(views, truth, lpips).items():
                found.setdefault(name, []).append(values.cpu())
        people = [path.stem.rsplit("-", 1)[0] if group == "head" else path.stem for path in paths]
        out[group] = table({name: torch.cat(rows) for name, rows in found.items()}, people)
    return out


def rows(net: ViewNet | None, sample: Tensor) -> list[Tensor]:
    """Pictures of one sample [PLANES, h, w]: photo and views of lift, network and truth, then normals."""
    views, truth, photo = predicted(net, sample[None])
    base, _, _ = predicted(None, sample[None])
    out = []
    for number, maps in enumerate((base, views, truth)):
        first = photo[0, :3] if number == 0 else torch.ones_like(photo[0, :3])
        out += [first, *maps[0, :, :3].clamp(0, 1)]
    for maps in (views, truth):
        normal = torch.nn.functional.normalize(maps[0, :, 3:6], dim=1, eps=1e-3) * 0.5 + 0.5
        out += [torch.ones_like(photo[0, :3]), *normal]
    return [picture.cpu() for picture in out]
