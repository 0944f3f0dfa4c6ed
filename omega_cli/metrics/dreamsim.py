"""DreamSim distance (Fu, Tamir, Sundaram, Chai, Zhang, Dekel and Isola 2023), with the user's own package.

Neither the package (it needs torchvision, timm and peft, which do not live beside this project's own) nor
its weights are carried or downloaded here: both are looked for when asked for.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from omega_cli.errors import OmegaError
from omega_cli.metrics.pairs import prepared

Kind = Literal["ensemble", "dino_vitb16", "clip_vitb32", "open_clip_vitb32"]

# What the package (0.2.1) looks for in its cache folder before it would download.
FILES: dict[Kind, tuple[str, ...]] = {
    "ensemble": (
        "dino_vitb16_pretrain.pth", "open_clip_vitb16_pretrain.pth.tar", "clip_vitb16_pretrain.pth.tar",
        "ensemble_lora",
    ),
    "dino_vitb16": ("dino_vitb16_pretrain.pth", "dino_vitb16_single_lora"),
    "clip_vitb32": ("clip_vitb32_pretrain.pth.tar", "clip_vitb32_single_lora"),
    "open_clip_vitb32": ("open_clip_vitb32_pretrain.pth.tar", "open_clip_vitb32_single_lora"),
}  # fmt: skip
FOLDER = "dreamsim"  # among the weights' folders


class DreamSim:
    """The distance [B] of pairs of pictures, low is alike; made by `load_dreamsim`. No gradients."""

    def __init__(self, network: Any, preprocess: Any, kind: Kind, device: torch.device | str) -> None:
        self._network, self._preprocess, self._device = network, preprocess, device
        self.kind = kind
        self.name = "DreamSim" if kind == "ensemble" else f"DreamSim-{kind}"

    @torch.no_grad()
    def __call__(
        self,
        a: Tensor,  # [B, 3, H, W] in [0, 1]
        b: Tensor,  # [B, 3, H, W]
        mask: Tensor | None = None,  # [B, 1, H, W]
    ) -> Tensor:  # [B]
        """DreamSim of each pair, through the package's own preprocessing. It sees the whole picture: a mask
        makes both black outside it, and nothing more."""
        a, b, _ = prepared(a, b, mask)
        if not len(a):
            return a.new_zeros(0)
        # One pair at a time: the package squeezes its features, which a batch of one and of many differ in.
        values = [self._network(self._ready(x), self._ready(y)).reshape(()) for x, y in zip(a, b)]
        return torch.stack(values).to(a.device, torch.float32)

    def _ready(self, image: Tensor) -> Tensor:
        from PIL import Image

        pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        return self._preprocess(Image.fromarray(np.ascontiguousarray(pixels))).to(self._device)


def load_dreamsim(kind: Kind = "ensemble", device: torch.device | str = "cpu") -> DreamSim:
    """DreamSim from the installed package `dreamsim` and the weights in the folder `dreamsim` beside the
    other weights ($OMEGA_WEIGHTS, else the cache). Raises OmegaError that says how to get what is missing.
    """
    if kind not in FILES:
        raise ValueError(f"kind must be one of {', '.join(FILES)}, got {kind!r}")
    folder = weights_folder(kind)
    try:
        package = importlib.import_module("dreamsim")
    except ImportError as error:
        raise OmegaError(
            f"DreamSim needs a package that is not usable here ({error}).",
            "In an environment of its own, with the torchvision of its torch: pip install dreamsim. "
            "Or leave DreamSim out.",
        ) from error
    with contextlib.redirect_stdout(io.StringIO()):  # it prints where it found its files
        network, preprocess = package.dreamsim(
            pretrained=True, device=str(device), cache_dir=str(folder), dreamsim_type=kind
        )
    return DreamSim(network, preprocess, kind, device)


def weights_folder(kind: Kind) -> Path:
    """The folder that holds all of the files of `kind`. Raises OmegaError naming what is missing."""
    from omega_cli import weights

    places = [place / FOLDER for place in weights.search_folders()]
    for folder in places:
        if all((folder / file).exists() for file in FILES[kind]):
            return folder
    there = next((folder for folder in places if folder.is_dir()), places[-1])
    missing = [file for file in FILES[kind] if not (there / file).exists()]
    raise OmegaError(
        f"DreamSim ({kind}) lacks {', '.join(missing)} in {there}.",
        f"Unpack dreamsim_{kind}_checkpoint.zip of the releases of github.com/ssundaram21/dreamsim there "
        "(MIT code; the weights' licences are those of DINO, CLIP and OpenCLIP).",
    )
