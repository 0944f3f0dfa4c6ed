"""Package list and native kernels; everything else is in pyproject.toml.

The folders kernels/ and weights/ are shipped as omega_cli.kernels and omega_cli.weights. The kernels
are plain C-ABI libraries built by kernels/build.py (no torch needed at build time); where they cannot
be built, installing warns and the torch references run instead.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from setuptools import Distribution, Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


def load_build_script() -> ModuleType:
    """kernels/build.py by its path: importing the package would import torch."""
    spec = importlib.util.spec_from_file_location("omega_kernels_build", ROOT / "kernels" / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BuildKernels(build_ext):
    """Puts the kernel libraries beside the package's Python files, in place for an editable install."""

    def run(self) -> None:
        script = load_build_script()
        folder = ROOT / "kernels" if self.inplace else Path(self.build_lib) / "omega_cli" / "kernels"
        self._attempt(lambda: script.build_cpu(folder / script.CPU_LIBRARY), "CPU", must=False)
        must = os.environ.get("OMEGA_CUDA") == "1"
        self._attempt(lambda: script.build_cuda(folder / script.CUDA_LIBRARY), "CUDA", must=must)

    def _attempt(self, build: Callable[[], object], name: str, must: bool) -> None:
        try:
            build()
        except Exception as error:
            if must:
                raise
            note = f"omega: the {name} kernels were not built, slower paths run instead: {error}"
            print(note, file=sys.stderr)

    def get_outputs(self) -> list[str]:
        folder = Path(self.build_lib) / "omega_cli" / "kernels"
        return [str(path) for path in folder.glob("*.so")]

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    def get_source_files(self) -> list[str]:
        return []


class BinaryDistribution(Distribution):
    """The wheel holds machine code, although setuptools knows of no extension module."""

    def has_ext_modules(self) -> bool:
        return True


setup(
    distclass=BinaryDistribution,
    packages=[*find_packages(include=["omega_cli", "omega_cli.*"]), "omega_cli.kernels", "omega_cli.weights"],
    package_dir={"omega_cli.kernels": "kernels", "omega_cli.weights": "weights"},
    package_data={
        "omega_cli.kernels": ["csrc/*", "*.so"],
        "omega_cli.weights": ["registry.json", "README.md", "*.npz", "*.safetensors"],
        "omega_cli": ["avatar/schema/*.json"],
    },
    ext_modules=[Extension("omega_cli.kernels.native", sources=[])],
    cmdclass={"build_ext": BuildKernels},
)
