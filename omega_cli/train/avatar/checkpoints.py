"""What a run of the avatar network leaves: networks, and the trainer's state to go on from."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from omega_cli.avatar import folders, layout
from omega_cli.decode.checkpoint import DECODER
from omega_cli.errors import OmegaError
from omega_cli.render.checkpoint import REFINER
from omega_cli.splat_uv.checkpoint import ENCODER

NETWORKS = {
    ENCODER.name: layout.AVATAR_ENCODER,
    DECODER.name: layout.AVATAR_DECODER,
    REFINER.name: layout.AVATAR_REFINER,
}


def read_networks(folder: Path) -> dict[str, bytes]:
    """The three networks of a folder, for `OmegaModel.load`. Raises OmegaError where one is missing."""
    missing = [file for file in NETWORKS.values() if not (folder / file).is_file()]
    if missing:
        raise OmegaError(
            f"{folder} lacks {', '.join(missing)}.", "Give a folder that omega train --stage avatar wrote."
        )
    return {name: (folder / file).read_bytes() for name, file in NETWORKS.items()}


def write_networks(folder: Path, files: Mapping[str, bytes]) -> None:
    """Each file appears whole."""
    for name, data in files.items():
        with folders.writing_file(folder / NETWORKS[name]) as scratch:
            scratch.write_bytes(data)


def write(run: Path, state: dict[str, Any], files: Mapping[str, bytes]) -> Path:
    """checkpoints/step-N/ with networks and state; the states of earlier steps go."""
    folder = run / layout.RUN_CHECKPOINTS / layout.checkpoint(state["step"])
    with folders.writing(folder) as scratch:
        write_networks(scratch, files)
        torch.save(state, scratch / layout.TRAINER_STATE)
    for older in folder.parent.glob(f"*/{layout.TRAINER_STATE}"):
        if older.parent != folder:
            older.unlink()
    return folder


def newest(run: Path) -> Path | None:
    """The last checkpoint that can be gone on from."""
    found = sorted((run / layout.RUN_CHECKPOINTS).glob(f"step-*/{layout.TRAINER_STATE}"))
    return found[-1].parent if found else None


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The trainer's state, read as data: a file can run nothing. Raises OmegaError for another file."""
    path = checkpoint / layout.TRAINER_STATE
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, LookupError, ValueError, pickle.UnpicklingError) as error:
        detail = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise OmegaError(f"{path} cannot be read ({detail}).", "Go on with --start RUN instead.") from error
