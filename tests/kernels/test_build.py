"""Building and finding the library: every way it can go."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from omega_cli.kernels import _backend, build

USE = """
import sys, torch
from omega_cli.kernels import build
build.CPU_LIBRARY = "libomega_test.so"  # as if nothing had been prebuilt
from omega_cli.kernels import _backend
from omega_cli.kernels.uv_splat import uv_splat
for _ in range(2):
    print(float(uv_splat(torch.ones(1, 3, 1), torch.full((1, 3, 2), 0.5), (3, 3)).sum()))
print(_backend.choose("auto", torch.ones(1)))
try:
    print(_backend.location())
except Exception as error:
    print(type(error).__name__, error, error.hint)
"""


def start(cache: Path, **environment: str) -> subprocess.Popen[str]:
    variables = os.environ | {"XDG_CACHE_HOME": str(cache)} | environment
    return subprocess.Popen(
        [sys.executable, "-c", USE], env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.fixture(scope="module", autouse=True)
def _needs_a_compiler() -> None:
    if build.find_compiler() is None:
        pytest.skip("no C++ compiler here")


def test_two_processes_build_once_into_the_cache_and_the_next_one_finds_it(tmp_path: Path) -> None:
    outputs = [process.communicate(timeout=300) for process in [start(tmp_path), start(tmp_path)]]
    folder = tmp_path / "omega" / "kernels"
    library = next(folder.glob("*/libomega_test.so"))
    for out, _ in outputs:
        assert out.splitlines() == ["3.0", "3.0", "native", str(library)]
    said = sorted(err for _, err in outputs)
    assert said == ["", "omega: building the CPU kernels once (a few seconds)\n"]
    assert {path.name for path in folder.rglob("*") if path.is_file()} == {library.name, "lock"}
    out, err = start(tmp_path, CXX="/nowhere/g++").communicate(timeout=100)
    assert out.splitlines()[2:] == ["native", str(library)] and err == ""


def test_without_a_compiler_the_references_run_with_one_warning(tmp_path: Path) -> None:
    out, err = start(tmp_path, CXX="/nowhere/g++").communicate(timeout=100)
    lines = out.splitlines()
    assert lines[:3] == ["3.0", "3.0", "torch"]
    assert err.count("\n") == 1 and "no native kernels, slow torch references instead" in err
    # the error of an explicit request names both causes and the mending command
    assert lines[3].startswith("NativeUnavailable") and "apt-get install g++" in lines[3]
    assert "libomega_test.so does not exist" in lines[3] and "no C++ compiler found" in lines[3]


def test_a_failing_compiler_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "broken++"
    compiler.write_text("#!/bin/sh\necho 'internal compiler error: tired' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(build.BuildError, match="internal compiler error: tired"):
        build.build_cpu(tmp_path / "lib.so")
    assert not (tmp_path / "lib.so").exists()


def test_a_library_from_other_sources_is_not_used() -> None:
    with pytest.raises(OSError, match=r"was built from other sources"):
        _backend._load(Path(_backend.location()), "0123456789abcdef")


def test_loading_leaves_the_processor_as_it_was() -> None:
    """-ffast-math at link time would flush the small numbers of the whole process to zero."""
    _backend.library()
    assert float(torch.tensor(1e-40, dtype=torch.float64).float()) != 0.0
    assert float(torch.tensor([1e-39]) * 0.5) != 0.0


def test_build_script_needs_neither_torch_nor_the_package() -> None:
    script = Path(build.__file__)
    code = f"import runpy, sys; runpy.run_path({str(script)!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "omega_cli"} & set(done.stdout.split())


def test_no_cuda_when_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OMEGA_CUDA", "0")
    assert build.find_nvcc() is None and build.build_cuda(tmp_path / "lib.so") is None


def test_unknown_backend() -> None:
    with pytest.raises(ValueError, match="backend must be auto, native or torch, got 'gpu'"):
        _backend.choose("gpu")


def test_the_cuda_library_that_was_built_here_is_the_one_that_python_calls() -> None:
    """Loads without a GPU: it brings its own runtime and looks for a driver at the first launch only."""
    library = Path(build.__file__).parent / build.CUDA_LIBRARY
    if build.find_nvcc() is None or not library.exists():
        pytest.skip("no nvcc here, or installed without it")
    loaded = _backend._load(library, build.cuda_source_hash())
    sources = [path.read_text() for path in Path(build.__file__).parent.glob("*.py")]
    called = {name for text in sources for name in re.findall(r"omega_cuda_\w+", text)}
    assert "omega_cuda_uv_splat" in called and all(hasattr(loaded, name) for name in called)
