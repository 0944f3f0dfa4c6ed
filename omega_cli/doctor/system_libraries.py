"""What pip cannot bring: shared libraries of the system, a C++ compiler. Standard library only: the
set-up script runs this file by its path, before any package is installed."""

from __future__ import annotations

import ctypes
import os
import shutil

NEEDED = {
    "libGL.so.1": "libgl1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libEGL.so.1": "libegl1",
    "libGLESv2.so.2": "libgles2",
}
"""Library -> Debian and Ubuntu package. The first two are for OpenCV, the others for MediaPipe."""


def missing() -> list[str]:
    """Those of NEEDED that cannot be loaded."""
    gone = []
    for library in NEEDED:
        try:
            ctypes.CDLL(library)
        except OSError:
            gone.append(library)
    return gone


def apt_command(packages: list[str]) -> str:
    """What a person types to install Debian packages."""
    sudo = "" if os.geteuid() == 0 else "sudo "
    return f"{sudo}apt-get update && {sudo}apt-get install -y {' '.join(packages)}"


def has_compiler() -> bool:
    """True when kernels/build.py will find a C++ compiler."""
    named = os.environ.get("CXX")
    return any(shutil.which(name.split()[0]) for name in ([named] if named else ["g++", "clang++", "c++"]))


if __name__ == "__main__":
    absent = missing()
    packages = [NEEDED[library] for library in absent]
    if not has_compiler():
        # The torch references would run, but a turntable takes them a quarter of an hour.
        absent, packages = [*absent, "a C++ compiler"], [*packages, "g++"]
    if absent:
        print(f"Missing on this system: {', '.join(absent)}.")  # noqa: T201
        print(f"Run: {apt_command(packages)}")  # noqa: T201
        raise SystemExit(1)
