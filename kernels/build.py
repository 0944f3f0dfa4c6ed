"""Compile the kernels into plain C-ABI shared libraries. Imports neither torch nor anything of ours.

setup.py calls this at install time; `_backend.py` calls it once more when no prebuilt library fits.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ABI_VERSION = 2  # the C signatures; omega_abi_version() must return it
CSRC = Path(__file__).parent / "csrc"
CPU_LIBRARY = "libomega_cpu.so"
CUDA_LIBRARY = "libomega_cuda.so"

# -ffast-math belongs to compiling only: at link time it would add a start-up object that switches
# the whole process, torch included, to flush-to-zero.
COMPILE_FLAGS = ("-O3", "-std=c++17", "-ffast-math", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wno-psabi")
LINK_FLAGS = ("-shared", "-fPIC")
CUDA_FLAGS = ("-O3", "-std=c++17", "-Xcompiler", "-fPIC,-fvisibility=hidden", "-shared", "-cudart", "static")
CUDA_ARCHS = ("80", "90", "90+PTX")


class BuildError(Exception):
    """No compiler, or the compiler failed; the text says which."""


def cpu_sources() -> list[Path]:
    return sorted(CSRC.glob("*_cpu.cpp"))


def cuda_sources() -> list[Path]:
    return sorted(CSRC.glob("*.cu"))


def source_hash() -> str:
    """Digest of everything that decides what the CPU library does; the library carries it."""
    return _digest((*COMPILE_FLAGS, *LINK_FLAGS), [*cpu_sources(), *CSRC.glob("*.h")])


def cuda_source_hash() -> str:
    """The same for the CUDA library."""
    return _digest((*CUDA_FLAGS, *CUDA_ARCHS), [*cuda_sources(), *CSRC.glob("*.cuh")])


def _digest(flags: tuple[str, ...], files: list[Path]) -> str:
    digest = hashlib.sha256(" ".join(flags).encode())
    for path in sorted(files):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _identity(sources: str) -> list[str]:
    return [f'-DOMEGA_SOURCE_HASH="{sources}"', f"-DOMEGA_ABI_VERSION={ABI_VERSION}"]


def find_compiler() -> str | None:
    """$CXX, else the first of g++, clang++, c++ on PATH."""
    named = os.environ.get("CXX")
    for candidate in [named] if named else ["g++", "clang++", "c++"]:
        if shutil.which(candidate.split()[0]):
            return candidate
    return None


def find_nvcc() -> str | None:
    """nvcc of $CUDA_HOME, /usr/local/cuda or PATH; None where OMEGA_CUDA=0 or there is none."""
    if os.environ.get("OMEGA_CUDA") == "0":
        return None
    for home in (os.environ.get("CUDA_HOME"), "/usr/local/cuda"):
        if home and (Path(home) / "bin" / "nvcc").exists():
            return str(Path(home) / "bin" / "nvcc")
    return shutil.which("nvcc")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last_lines = "\n".join(done.stderr.strip().splitlines()[-20:])
        raise BuildError(f"{' '.join(command)}\n{last_lines}")


def _into_place(built: Path, out: Path) -> None:
    """Rename within the folder, so that a reader (or a second builder) never sees half a library."""
    out.parent.mkdir(parents=True, exist_ok=True)
    waiting = out.with_name(f".{out.name}.{os.getpid()}")
    shutil.copy(built, waiting)
    os.replace(waiting, out)


def build_cpu(out: Path) -> Path:
    """Compile every csrc/*_cpu.cpp into the shared library `out`. Raises BuildError."""
    compiler = find_compiler()
    if compiler is None:
        raise BuildError(f"no C++ compiler found (CXX={os.environ.get('CXX', '')!r}, g++, clang++, c++)")
    with tempfile.TemporaryDirectory(prefix="omega-kernels-") as scratch:
        built = Path(scratch) / out.name
        try:
            _compile_and_link(compiler, ["-fopenmp"], Path(scratch), built)
        except BuildError as with_openmp:
            try:  # Apple's clang knows no OpenMP: one thread is better than no library
                _compile_and_link(compiler, [], Path(scratch), built)
            except BuildError:
                raise with_openmp from None
        _into_place(built, out)
    return out


def _compile_and_link(compiler: str, openmp: list[str], scratch: Path, built: Path) -> None:
    objects = [(source, scratch / f"{source.stem}.o") for source in cpu_sources()]
    with ThreadPoolExecutor(max_workers=max(1, min(len(objects), os.cpu_count() or 1))) as pool:
        compile_one = [*compiler.split(), *COMPILE_FLAGS, *openmp, *_identity(source_hash())]
        jobs = [pool.submit(_run, [*compile_one, "-c", str(s), "-o", str(o)]) for s, o in objects]
    for job in jobs:
        job.result()
    _run([*compiler.split(), *LINK_FLAGS, *openmp, *(str(o) for _, o in objects), "-o", str(built)])


def build_cuda(out: Path) -> Path | None:
    """Compile every csrc/*.cu into the shared library `out`; None where there is no nvcc.

    Raises BuildError when nvcc fails: the caller decides whether that matters (OMEGA_CUDA=1).
    """
    nvcc = find_nvcc()
    if nvcc is None:
        return None
    generate: list[str] = []
    for arch in CUDA_ARCHS:
        number, ptx = arch.split("+")[0], arch.endswith("+PTX")
        generate += ["-gencode", f"arch=compute_{number},code={'compute' if ptx else 'sm'}_{number}"]
    with tempfile.TemporaryDirectory(prefix="omega-kernels-") as scratch:
        built = Path(scratch) / out.name
        command = [nvcc, *CUDA_FLAGS, "--threads", "0", *generate, *_identity(cuda_source_hash())]
        _run([*command, *map(str, cuda_sources()), "-o", str(built)])
        _into_place(built, out)
    return out


def cache_folder(sources: str | None = None) -> Path:
    """Where a library built at run time is kept: one folder for each source text and machine kind.

    sources: the digest of those sources, by default the CPU library's.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "omega" / "kernels" / f"{sources or source_hash()}-{platform.machine()}"
