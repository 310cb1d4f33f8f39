"""What tests with real processes share."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def children_hear_interrupts() -> Iterator[None]:
    """Also where the tests were begun in the background by a script, which has interrupts ignored, and so in all that they begin."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def own_home(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables of a process: this Python as the environment, and a home and a cache of the module's own."""
    home = tmp_path_factory.mktemp("home")
    return os.environ | {
        "COGRAD3D_PYTHON": sys.executable,
        "COGRAD3D_CACHE": str(home / "cache"),
        "HOME": str(home),
        "XDG_DATA_HOME": str(home / "data"),
    }
