"""A DINOv3 vision transformer in a folder of the user's own, as Hugging Face lays it out.

Siméoni et al. 2025; facebook/dinov3-vit{s,b,l}16-pretrain-lvd1689m under Meta's DINOv3 licence. Neither
carried nor downloaded here. Read by transformers (an extra of omega's), safetensors alone, nothing from a
network, no code of the folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from omega_cli import weights
from omega_cli.errors import OmegaError

CONFIG, WEIGHTS = "config.json", "model.safetensors"
PLACE = "dinov3"  # the folder's name among the weights' folders
KIND = "dinov3_vit"  # its model_type: the ConvNeXts of that family are something else

_HINT = (
    f"Put {CONFIG} and {WEIGHTS} of facebook/dinov3-vitb16-pretrain-lvd1689m (or vits16, vitl16) of Hugging "
    f"Face into a folder, and name it with --encoder-backbone, or call it {PLACE} in a folder of "
    "$OMEGA_WEIGHTS."
)


@dataclass(frozen=True)
class DinoFolder:
    """net: transformers' DINOv3ViTModel in float32, frozen, in evaluation mode; config: its config.json;
    sha256: of its weights' file."""

    net: nn.Module
    config: dict[str, Any]
    sha256: str


def find(folder: str) -> Path:
    """The user's `folder`; for "" the one called dinov3 among the weights' folders. Raises OmegaError where
    it is not, or is not whole."""
    places = [place / PLACE for place in weights.search_folders()]
    found = Path(folder) if folder else next((place for place in places if place.is_dir()), None)
    if found is None:
        raise OmegaError("This avatar encoder reads a DINOv3 model, which is not here.", _HINT)
    if not found.is_dir():
        raise OmegaError(f"There is no folder {found} with a DINOv3 model.", _HINT)
    missing = [file for file in (CONFIG, WEIGHTS) if not (found / file).is_file()]
    if missing:
        others = sorted(p.name for p in found.glob("*") if p.suffix in (".bin", ".pth", ".safetensors"))
        instead = f" It has {', '.join(others)}, which omega does not read." if others else ""
        raise OmegaError(f"{found} lacks {' and '.join(missing)}.{instead}", _HINT)
    return found


def read(folder: Path) -> DinoFolder:
    """The model of a folder that `find` found. Raises OmegaError for another one, or without transformers."""
    config = _config(folder / CONFIG)
    if config.get("model_type") != KIND:
        raise OmegaError(f"{folder / CONFIG} is of a {config.get('model_type')!r}, not of a {KIND!r}.", _HINT)
    try:
        from transformers import DINOv3ViTModel
    except ImportError as error:
        raise OmegaError(
            f"DINOv3 needs the package transformers, 4.56 or later ({error}).",
            'pip install "transformers>=4.56"',
        ) from error
    with _quiet():
        try:
            net, info = DINOv3ViTModel.from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True, output_loading_info=True
            )
        except Exception as error:  # of safetensors, of torch, of the checks of its config: all mean this
            text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise OmegaError(f"{folder} has no DINOv3 model that can be read ({text}).", _HINT) from error
    # transformers would fill these with random numbers and go on
    missing = sorted(info["missing_keys"])
    if missing:
        raise OmegaError(f"{folder / WEIGHTS} lacks {len(missing)} tensors ({missing[0]}, ...).", _HINT)
    return DinoFolder(net.float().eval().requires_grad_(False), config, weights.sha256_of(folder / WEIGHTS))


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise OmegaError(f"{path} is no JSON file ({error}).", _HINT) from error
    return config if isinstance(config, dict) else {}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars and warnings."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
