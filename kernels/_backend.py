"""Find or build the CPU library once per process, and call into it.

Order: the prebuilt library beside this package (if it was made from these very sources), the one in
the user cache, one build into the user cache. Failing all, `library()` raises with every cause, and
`auto` falls back to the torch references with a single warning line.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import sys
from pathlib import Path

import torch
from torch import Tensor

from omega_cli.errors import OmegaError
from omega_cli.kernels import build


class NativeUnavailable(OmegaError):
    """The compiled CPU kernels can be neither loaded nor built here."""


def _load(path: Path, wanted_hash: str) -> ctypes.CDLL:
    """Open one library and check that it speaks this ABI and was built from these sources."""
    if not path.exists():
        raise OSError(f"{path} does not exist")
    library = ctypes.CDLL(str(path))
    version = int(library.omega_abi_version())
    if version != build.ABI_VERSION:
        raise OSError(f"{path} has ABI {version}, this package needs {build.ABI_VERSION}")
    library.omega_source_hash.restype = ctypes.c_char_p
    found = library.omega_source_hash().decode()
    if found != wanted_hash:
        raise OSError(f"{path} was built from other sources ({found}, now {wanted_hash})")
    return library


def _build_once(out: Path) -> None:
    """Build into the cache; of several processes that come here at once, one builds and the others wait.

    Where the folder cannot be locked, all of them build: the library appears by renaming, so that is
    a waste and no harm.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with (out.parent / "lock").open("w") as lock:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        if out.exists():
            return
        if build.find_compiler() is not None:
            sys.stderr.write("omega: building the CPU kernels once (a few seconds)\n")
        build.build_cpu(out)


@functools.cache
def _library_or_causes() -> tuple[ctypes.CDLL | None, str, str]:
    """(library, where from, causes of failure): tried once, success and failure both remembered."""
    wanted = build.source_hash()
    prebuilt = Path(__file__).parent / build.CPU_LIBRARY
    try:
        return _load(prebuilt, wanted), str(prebuilt), ""
    except (OSError, AttributeError) as error:
        causes = [f"prebuilt: {error}"]
    cached = build.cache_folder() / build.CPU_LIBRARY
    try:
        if not cached.exists():
            _build_once(cached)
        return _load(cached, wanted), str(cached), ""
    except (build.BuildError, OSError, AttributeError) as error:
        causes.append(f"build: {error}")
    return None, "", "; ".join(causes)


def library() -> ctypes.CDLL:
    """The CPU library. Raises NativeUnavailable, naming why neither loading nor building worked."""
    loaded, _, causes = _library_or_causes()
    if loaded is None:
        raise NativeUnavailable(
            f"the native CPU kernels are not available ({causes})",
            "Install a C++ compiler (Debian, Ubuntu: `apt-get install g++`), or use --backend torch.",
        )
    return loaded


def location() -> str:
    """Path of the library in use, for `omega doctor`. Raises NativeUnavailable."""
    library()
    return _library_or_causes()[1]


@functools.cache
def _warn_once(causes: str) -> None:
    first_line = causes.splitlines()[0] if causes else ""
    sys.stderr.write(f"omega: no native kernels, slow torch references instead ({first_line})\n")


def choose(backend: str, *tensors: Tensor) -> str:
    """Resolve "auto" to "native" or "torch" for these inputs; check an explicit choice.

    native needs float32 tensors on the CPU; everything else runs on the torch reference.
    """
    if backend not in ("auto", "native", "torch"):
        raise ValueError(f"backend must be auto, native or torch, got {backend!r}")
    suits = all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)
    if backend == "native":
        if not suits:
            found = ", ".join(f"{t.dtype} on {t.device}" for t in tensors)
            raise ValueError(f"backend native takes float32 CPU tensors, got {found}")
        library()
        return backend
    if backend == "torch" or not suits:
        return "torch"
    loaded, _, causes = _library_or_causes()
    if loaded is None:
        _warn_once(causes)
        return "torch"
    return "native"


def pointer(tensor: Tensor) -> ctypes.c_void_p:
    """Address of a contiguous tensor's first element."""
    assert tensor.is_contiguous()
    return ctypes.c_void_p(tensor.data_ptr())


def threads() -> ctypes.c_int:
    """torch's own thread count, so that set_num_threads (and data-loader workers) are obeyed."""
    return ctypes.c_int(torch.get_num_threads())


def integer(value: int) -> ctypes.c_int64:
    return ctypes.c_int64(value)


def real(value: float) -> ctypes.c_float:
    return ctypes.c_float(value)
