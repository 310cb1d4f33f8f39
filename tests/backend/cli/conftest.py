"""The command line as a user without an environment has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend import environment

from .outside import WENT_ON


@pytest.fixture(autouse=True)
def outside(monkeypatch, tmp_path):
    """An empty home, no environment, and a process that would notice if it went on in one."""
    for name in ("COGRAD3D_ENV", "COGRAD3D_PYTHON", "COGRAD3D_JOBS", "COGRAD3D_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(environment, "is_inside", lambda: False)
    monkeypatch.setattr(environment, "ready_python", lambda: Path("/the/environment/bin/python"))
    monkeypatch.setattr(environment, "run_inside", lambda python, arguments: WENT_ON)
