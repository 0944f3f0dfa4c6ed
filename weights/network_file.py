"""Networks of our own as files: one sort of network, its bytes, and which file of it a stage shall use.

The bytes are `eightbit`'s: sizes under `config`, and whatever training says of itself (`trained_on`,
`held_out`, `step`, `seconds`, the digest of a network that it belongs to) beside them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from torch import Tensor, nn

from omega_cli import weights
from omega_cli.errors import OmegaError
from omega_cli.weights import eightbit


class Described(Protocol):
    """A network that knows its sizes, as JSON values."""

    def description(self) -> dict[str, Any]: ...
    def state_dict(self) -> dict[str, Tensor]: ...


Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class Loaded(Generic[Net]):
    """A network ready for use (shared: nobody changes it), its metadata, its file's sha256 and the name by
    which a record knows it: the registry's, or for a file of the user's own its path."""

    net: Net
    about: dict[str, Any]
    sha256: str
    key: str

    @property
    def digests(self) -> dict[str, str]:
        """What stage.json's "weights" say."""
        return {self.key: f"sha256:{self.sha256}"}


@dataclass(frozen=True)
class NetworkFile(Generic[Net]):
    """One sort of network: its name in the registry, what people call it, and how it is made of its sizes."""

    name: str
    words: str
    build: Callable[[dict[str, Any]], Net]

    @property
    def schema(self) -> str:
        return f"omega/{self.name.replace('_', '-')}/1"

    @property
    def known(self) -> bool:
        """Whether omega comes with such a network."""
        return self.name in weights.registry()

    def to_bytes(self, net: Described, **about: object) -> bytes:
        """The network as a file; `about` (JSON values) goes into the metadata."""
        return eightbit.to_bytes(net.state_dict(), self.schema, config=net.description(), **about)

    def from_bytes(self, data: bytes, file: str) -> tuple[Net, dict[str, Any]]:
        """(network in float32, its metadata). Raises OmegaError for a file that is something else."""

        def build(about: dict[str, Any]) -> Net:
            sizes = about["config"].items()
            return self.build({name: tuple(v) if isinstance(v, list) else v for name, v in sizes})

        return eightbit.from_bytes(data, file, self.schema, self.words, build)

    def find(
        self, file: str, *, needed: str = "", device: str = "cpu", report: Any = None
    ) -> Loaded[Net] | None:
        """The user's own `file`, else the one that comes with omega, else None.

        needed: what to do, in words, where there is none and there has to be one: that is an OmegaError then,
        as is a file that is not there or is something else.
        """
        if file:
            path, key = Path(file), file
            if not path.is_file():
                raise OmegaError(f"There is no {self.words} {file}.", "Give the file that omega train wrote.")
        elif self.known:
            path, key = weights.resolve(self.name, report), self.name
        elif needed:
            raise OmegaError(f"omega comes without an {self.words} so far.", needed)
        else:
            return None
        stat = path.stat()
        return _loaded(self, path, key, stat.st_size, stat.st_mtime_ns, device)


@functools.lru_cache(maxsize=6)
def _loaded(
    kind: NetworkFile[Net], path: Path, key: str, size: int, modified: int, device: str
) -> Loaded[Net]:
    """Kept for the next avatar; a recorded CUDA graph needs its weights to stay where they are."""
    net, about = kind.from_bytes(path.read_bytes(), str(path))
    return Loaded(net.to(device).requires_grad_(False), about, weights.sha256_of(path), key)
