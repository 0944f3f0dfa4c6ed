"""Every native test runs on each version of the kernels that this processor can execute."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from omega_cli.kernels import _backend


@pytest.fixture(params=[16, 8, 4], ids=["avx512", "avx2", "baseline"])
def vector_width(request: pytest.FixtureRequest) -> Iterator[int]:
    """Floats in a vector register; the widest the machine has is restored afterwards."""
    library = _backend.library()
    if library.omega_vector_width(request.param) != request.param:
        library.omega_vector_width(16)
        pytest.skip(f"this processor has no vectors of {request.param} floats")
    yield request.param
    library.omega_vector_width(16)


@pytest.fixture
def with_threads() -> Iterator[None]:
    """Leaves torch's thread count as it found it."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
