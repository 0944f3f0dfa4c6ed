"""Find or build the compiled libraries once per process, and call into them.

Order, for the CPU and for the CUDA library: the prebuilt one beside this package (if it was made from
these very sources), the one in the user cache, one build into the user cache. Failing all, `library()`
raises with every cause, and `auto` falls back to the torch references with a single warning line.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import sys
from collections.abc import Callable, Sequence
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


def _build_cpu(out: Path) -> None:
    if build.find_compiler() is not None:
        sys.stderr.write("omega: building the CPU kernels once (a few seconds)\n")
    build.build_cpu(out)


def _build_cuda(out: Path) -> None:
    if build.find_nvcc() is not None:
        sys.stderr.write("omega: building the CUDA kernels once (about a minute)\n")
    if build.build_cuda(out) is None:
        raise build.BuildError("no nvcc found ($CUDA_HOME, /usr/local/cuda, PATH)")


def _build_once(out: Path, make: Callable[[Path], None]) -> None:
    """Build into the cache; of several processes that come here at once, one builds and the others wait.

    Where the folder cannot be locked, all of them build: the library appears by renaming, so that is
    a waste and no harm.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with (out.parent / "lock").open("w") as lock:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not out.exists():
            make(out)


@functools.cache
def _library_or_causes(device: str) -> tuple[ctypes.CDLL | None, str, str]:
    """(library, where from, causes of failure): tried once, success and failure both remembered."""
    if device == "cuda":
        name, wanted, make = build.CUDA_LIBRARY, build.cuda_source_hash(), _build_cuda
    else:
        name, wanted, make = build.CPU_LIBRARY, build.source_hash(), _build_cpu
    prebuilt = Path(__file__).parent / name
    try:
        return _load(prebuilt, wanted), str(prebuilt), ""
    except (OSError, AttributeError) as error:
        causes = [f"prebuilt: {error}"]
    cached = build.cache_folder(wanted) / name
    try:
        if not cached.exists():
            _build_once(cached, make)
        return _load(cached, wanted), str(cached), ""
    except (build.BuildError, OSError, AttributeError) as error:
        causes.append(f"build: {error}")
    return None, "", "; ".join(causes)


def library(device: str = "cpu") -> ctypes.CDLL:
    """The CPU or the CUDA library. Raises NativeUnavailable, with the reasons."""
    loaded, _, causes = _library_or_causes(device)
    if loaded is None:
        name, compiler = (
            ("CUDA", "nvcc (NVIDIA's CUDA toolkit)") if device == "cuda" else ("CPU", "a C++ compiler")
        )
        hint = "" if device == "cuda" else " (Debian, Ubuntu: `apt-get install g++`)"
        raise NativeUnavailable(
            f"the native {name} kernels are not available ({causes})",
            f"Install {compiler}{hint}, or use --backend torch.",
        )
    return loaded


def location(device: str = "cpu") -> str:
    """Path of the library in use, for `omega doctor`. Raises NativeUnavailable."""
    library(device)
    return _library_or_causes(device)[1]


@functools.cache
def _warn_once(causes: str) -> None:
    first_line = causes.splitlines()[0] if causes else ""
    sys.stderr.write(f"omega: no native kernels, slow torch references instead ({first_line})\n")


def choose(backend: str, *tensors: Tensor, compiled_for: tuple[str, ...] = ("cpu", "cuda")) -> str:
    """Resolve "auto" to "native" or "torch" for these inputs; check an explicit choice.

    native is the compiled code for the tensors' device, one of `compiled_for`. It needs float32 tensors on
    one device; everything else runs on the torch reference.
    """
    if backend not in ("auto", "native", "torch"):
        raise ValueError(f"backend must be auto, native or torch, got {backend!r}")
    devices = {t.device.type for t in tensors} or {"cpu"}
    suits = len(devices) == 1 and devices <= set(compiled_for)
    suits = suits and all(t.dtype == torch.float32 for t in tensors)
    if backend == "torch" or (backend == "auto" and not suits):
        return "torch"
    if not suits:
        found = ", ".join(f"{t.dtype} on {t.device}" for t in tensors)
        where = " or ".join(device.upper() for device in compiled_for)
        raise ValueError(f"backend native takes float32 {where} tensors, got {found}")
    device = devices.pop()
    if backend == "native":
        library(device)
        return backend
    loaded, _, causes = _library_or_causes(device)
    if loaded is None:
        _warn_once(causes)
        return "torch"
    return "native"


def call_cuda(name: str, like: Tensor, *arguments: object) -> None:
    """Queue one function of the CUDA library on the current stream of the tensor's device.

    The stream is appended to the arguments. Raises RuntimeError with CUDA's own text when launching fails.
    """
    loaded = library("cuda")
    with torch.cuda.device(like.device):
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        code = getattr(loaded, name)(*arguments, stream)
    if code:
        loaded.omega_cuda_error.restype = ctypes.c_char_p
        raise RuntimeError(f"{name}: {loaded.omega_cuda_error(code).decode()} (CUDA error {code})")


def refuse_beyond(limit: int, **counts: int) -> None:
    """Raise ValueError where a count is `limit` or more: the kernels number things in 32 bits."""
    for name, count in counts.items():
        if count >= limit:
            raise ValueError(f"{name.replace('_', ' ')}: {count} is too many, the limit is {limit - 1}")


def pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    """Address of a contiguous tensor's first element; null for None."""
    if tensor is None:
        return ctypes.c_void_p(None)
    assert tensor.is_contiguous()
    return ctypes.c_void_p(tensor.data_ptr())


def contiguous(*tensors: Tensor | None) -> list[Tensor | None]:
    """Each tensor in one piece; None stays None."""
    return [None if t is None else t.contiguous() for t in tensors]


def pointers(tensors: Sequence[Tensor]) -> ctypes.Array:
    """A C array of such addresses."""
    return (ctypes.c_void_p * len(tensors))(*(pointer(t) for t in tensors))


def aligned(tensor: Tensor) -> Tensor:
    """The tensor, contiguous and on a 16-byte boundary, for vector loads."""
    tensor = tensor.contiguous()
    return tensor if tensor.data_ptr() % 16 == 0 else tensor.clone()


def threads() -> ctypes.c_int:
    """torch's own thread count, so that set_num_threads (and data-loader workers) are obeyed."""
    return ctypes.c_int(torch.get_num_threads())


def integer(value: int) -> ctypes.c_int64:
    return ctypes.c_int64(value)


def real(value: float) -> ctypes.c_float:
    return ctypes.c_float(value)
