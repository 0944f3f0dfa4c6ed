"""The checks of `omega doctor`: each looks at one real thing and says what it found."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from omega_cli import weights
from omega_cli.doctor import system_libraries
from omega_cli.errors import OmegaError

Level = Literal["ok", "optional", "broken"]

UNWANTED = ("torchvision", "lpips", "timm", "lightning")
"""Packages whose mere presence breaks others here."""


@dataclass(frozen=True)
class Finding:
    """`optional`: missing, but nothing that this machine is asked for needs it."""

    name: str
    level: Level
    found: str
    mend: str = ""


def findings() -> Iterator[Finding]:
    """Every check, cheapest first."""
    for check in (
        _python, _packages, _system_libraries, _compiler, _torch, _kernels, _cuda, _gsplat, _pytorch3d,
        _ffmpeg, _unwanted, _weights,
    ):  # fmt: skip
        yield from _guarded(check)


def _guarded(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """A check that itself fails is a finding, not the end of the doctor."""
    try:
        yield from check()
    except Exception as error:
        yield Finding(check.__name__.strip("_"), "broken", f"{type(error).__name__}: {error}")


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    old = sys.version_info < (3, 11)
    yield Finding("python", "broken" if old else "ok", version, "install Python 3.11 or 3.12" if old else "")


def _packages() -> Iterator[Finding]:
    names = {"numpy": "numpy", "safetensors": "safetensors", "PIL": "pillow", "scipy": "scipy", "av": "av",
             "trimesh": "trimesh", "mediapipe": "mediapipe", "onnxruntime": "onnxruntime"}  # fmt: skip
    missing = [package for module, package in names.items() if importlib.util.find_spec(module) is None]
    mend = f"{sys.executable} -m pip install {' '.join(missing)}" if missing else ""
    found = f"missing: {', '.join(missing)}" if missing else f"{len(names)} of {len(names)}"
    yield Finding("packages", "broken" if missing else "ok", found, mend)


def _system_libraries() -> Iterator[Finding]:
    absent = system_libraries.missing()
    mend = system_libraries.apt_command([system_libraries.NEEDED[library] for library in absent])
    for library in system_libraries.NEEDED:
        gone = library in absent
        level: Level = "broken" if gone else "ok"
        yield Finding(library, level, "missing" if gone else "loads", mend if gone else "")


def _compiler() -> Iterator[Finding]:
    from omega_cli.kernels import build

    compiler = build.find_compiler()
    if compiler is None:
        yield Finding("C++ compiler", "optional", "none", system_libraries.apt_command(["g++"]))
        return
    done = subprocess.run([*compiler.split(), "--version"], capture_output=True, text=True, check=False)
    yield Finding("C++ compiler", "ok", (done.stdout.splitlines() or [compiler])[0])


def _torch() -> Iterator[Finding]:
    import torch

    yield Finding("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")


def _kernels() -> Iterator[Finding]:
    import torch

    from omega_cli.kernels import _backend

    try:
        yield Finding("CPU kernels", "ok", _backend.location())
    except OmegaError as error:
        yield Finding("CPU kernels", "broken", error.message.splitlines()[0], error.hint)
    if not torch.cuda.is_available():
        return
    try:
        yield Finding("CUDA kernels", "ok", _backend.location("cuda"))
    except OmegaError as error:  # the references run instead, on the GPU as well
        yield Finding("CUDA kernels", "optional", error.message.splitlines()[0], error.hint)


def _cuda() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        yield Finding("CUDA", "ok", f"{torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}")
    elif shutil.which("nvidia-smi"):
        mend = f"{sys.executable} -m pip install --force-reinstall torch"
        yield Finding("CUDA", "broken", "there is an NVIDIA driver, but torch has no CUDA", mend)
    else:
        yield Finding("CUDA", "optional", "no NVIDIA GPU here; everything runs on the CPU")


def _gsplat() -> Iterator[Finding]:
    version = _version("gsplat")
    if version:
        yield Finding("gsplat", "ok", f"{version} (renders on CUDA)")
    else:
        yield Finding("gsplat", "optional", "not installed; only of use on CUDA",
                      f"{sys.executable} -m pip install gsplat")  # fmt: skip


def _pytorch3d() -> Iterator[Finding]:
    version = _version("pytorch3d")
    found = version or "not installed; the native rasteriser does its work"
    yield Finding("pytorch3d", "ok" if version else "optional", found)


def _ffmpeg() -> Iterator[Finding]:
    import av
    from av.codec import codecs_available

    has = "libx264" in codecs_available
    found = f"PyAV {av.__version__}, H.264 {'written' if has else 'cannot be written'}"
    mend = "" if has else f"{sys.executable} -m pip install --force-reinstall av"
    yield Finding("films", "ok" if has else "broken", found, mend)


def _unwanted() -> Iterator[Finding]:
    present = [name for name in UNWANTED if importlib.util.find_spec(name) is not None]
    mend = f"{sys.executable} -m pip uninstall -y {' '.join(present)}" if present else ""
    found = f"present: {', '.join(present)}" if present else "none of " + ", ".join(UNWANTED)
    yield Finding("packages that break others", "broken" if present else "ok", found, mend)


def _weights() -> Iterator[Finding]:
    for name, entry in weights.registry().items():
        path = weights.find(name)
        needed = entry.default or entry.kind == "packaged"
        if path is None:
            mend = f"omega weights fetch {name}" if entry.fetchable else weights.how_to_get(entry)
            yield Finding(f"weights {name}", "broken" if needed else "optional", "missing", mend)
        elif problem := weights.problem(name):
            yield Finding(f"weights {name}", "broken", problem, f"omega weights fetch {name} --force")
        else:
            yield Finding(f"weights {name}", "ok", str(path))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
