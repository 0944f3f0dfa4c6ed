"""The face parser's weights as a small file (`weights.eightbit`)."""

from __future__ import annotations

from typing import Any

from omega_cli.track.parsing_network import FaceParser, ParserConfig, ParserNet
from omega_cli.weights import eightbit

SCHEMA = "omega/face-parser/1"


def to_bytes(net: ParserNet, **about: object) -> bytes:
    """The network as a file; `about` (JSON values) goes into the metadata."""
    return eightbit.to_bytes(net.state_dict(), SCHEMA, config=net.description(), **about)


def from_bytes(data: bytes, name: str) -> tuple[ParserNet, dict[str, Any]]:
    """(network, its metadata). Raises OmegaError for a file that is something else."""

    def build(about: dict[str, Any]) -> ParserNet:
        sizes = {key: tuple(value) for key, value in about["config"].items()}
        return ParserNet(ParserConfig(**sizes))

    return eightbit.from_bytes(data, name, SCHEMA, "face parser", build)


def load_parser(data: bytes, name: str) -> FaceParser:
    """The parser of a file, ready to use."""
    return FaceParser(from_bytes(data, name)[0])
