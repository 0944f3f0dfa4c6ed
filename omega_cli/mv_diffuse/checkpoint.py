"""The view network as a small file (`weights.eightbit`): its sizes and what it was trained on beside it."""

from __future__ import annotations

from typing import Any

from omega_cli.weights import eightbit

from .network import ViewNet, ViewNetConfig

SCHEMA = "omega/view-net/1"


def to_bytes(net: ViewNet, **about: object) -> bytes:
    """The network as a file; `about` (JSON values) goes into the metadata."""
    return eightbit.to_bytes(net.state_dict(), SCHEMA, config=net.description(), **about)


def from_bytes(data: bytes, name: str) -> tuple[ViewNet, dict[str, object]]:
    """(network in float32, its metadata). Raises OmegaError for a file that is something else."""

    def build(about: dict[str, Any]) -> ViewNet:
        sizes = about["config"]
        sizes["channels"] = tuple(sizes["channels"])
        return ViewNet(ViewNetConfig(**sizes))

    return eightbit.from_bytes(data, name, SCHEMA, "view network", build)
