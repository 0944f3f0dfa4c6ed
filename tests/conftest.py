"""Fixtures for every room. No mocks: the toy avatar is the real head through the real codecs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest_plugins = ["tests.ball"]

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew")


@pytest.fixture(scope="session")
def update_golden(request: pytest.FixtureRequest) -> bool:
    return request.config.getoption("--update-golden")


@pytest.fixture(scope="session")
def project() -> Path:
    """The project's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Pictures and films for tests that are not part of the project; skips where they are not there."""
    for place in (os.environ.get("OMEGA_TEST_DATA"), ROOT.parent / "shared" / "data"):
        if place and Path(place).is_dir():
            return Path(place)
    pytest.skip("the shared test data is not here (set OMEGA_TEST_DATA)")


def weight_file(name: str) -> Path:
    """A fetched weight file, or a skip where there is no network to fetch it with."""
    from omega_cli import weights
    from omega_cli.errors import OmegaError

    try:
        return weights.resolve(name)
    except OmegaError as error:
        pytest.skip(error.message)


@pytest.fixture(scope="session")
def astronaut() -> Path:
    return weight_file("astronaut")


@pytest.fixture(scope="session")
def grace_hopper() -> Path:
    return weight_file("grace_hopper")


@pytest.fixture(scope="session")
def _toy_avatar_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import toy

    return toy.make_toy_avatar(tmp_path_factory.mktemp("toy") / "avatar").root


@pytest.fixture
def toy_avatar(_toy_avatar_once: Path, tmp_path: Path):
    """A fresh copy of the toy avatar: source/ and views/ as a person might drop them in."""
    from omega_cli.avatar.layout import Avatar

    shutil.copytree(_toy_avatar_once, tmp_path / "avatar")
    return Avatar(tmp_path / "avatar")


@pytest.fixture(scope="session")
def omega() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `omega ARGUMENTS` as a user does, in its own process."""

    def run(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "omega_cli", *map(str, arguments)]
        options = {"capture_output": True, "text": True, "timeout": 300, "check": False} | options
        return subprocess.run(command, **options)

    return run
