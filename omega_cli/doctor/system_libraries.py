"""Shared libraries of the system that pip cannot bring. Standard library only: the set-up script runs
this file by its path, before any package is installed."""

from __future__ import annotations

import ctypes
import os

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


if __name__ == "__main__":
    absent = missing()
    if absent:
        print(f"System libraries are missing: {', '.join(absent)}.")  # noqa: T201
        print(f"Run: {apt_command([NEEDED[library] for library in absent])}")  # noqa: T201
        raise SystemExit(1)
