"""The refiner as a file, and whether it belongs to an avatar."""

from __future__ import annotations

from collections.abc import Collection

from omega_cli.gaussians.model import COLOURS
from omega_cli.render.refiner import Refiner, RefinerConfig
from omega_cli.weights.network_file import Loaded, NetworkFile

REFINER = NetworkFile("avatar_refiner", "avatar refiner", lambda sizes: Refiner(RefinerConfig(**sizes)))


def misfit(refiner: Loaded[Refiner], colours: int, digests: Collection[str]) -> str:
    """Why a refiner does not fit Gaussians of so many colours, made with weights of these digests
    ("sha256:..."); '' where it does."""
    if colours != COLOURS:
        return f"its Gaussians have {colours} colours, a refiner reads {COLOURS}"
    decoder = refiner.about.get("decoder")
    if decoder and digests and f"sha256:{decoder}" not in digests:
        return "it was decoded with another network than the refiner was trained with"
    return ""
