"""A place for an environment, away from this computer's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend import machine


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """No test sees or touches this computer's own environment, or its GPU."""
    for name in ("COGRAD3D_ENV", "COGRAD3D_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "data"))
    monkeypatch.setattr(machine, "nvidia_gpus", list)


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "env"
