"""What tests with real processes share."""

from __future__ import annotations

import os
import sys

import pytest


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
