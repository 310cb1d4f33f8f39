"""What the installer is asked for by the buttons that install in another way than the main one."""

from __future__ import annotations

import sys
from pathlib import Path

import bpy
import pytest

FAKE = Path(__file__).parents[1] / "addon" / "setup" / "fake_installer.py"
ops = bpy.ops.cograd3d


@pytest.fixture
def root(addon, addon_module, monkeypatch, tmp_path) -> Path:
    """The environment's folder, absent."""
    monkeypatch.delenv("COGRAD3D_PYTHON", raising=False)
    monkeypatch.setenv("COGRAD3D_ENV", str(tmp_path / "env"))
    addon_module("setup").supervisor.refresh()
    return tmp_path / "env"


@pytest.fixture
def asked(root, addon_module, monkeypatch) -> list[str]:
    """What the installer, which only acts, was asked for."""
    arguments: list[str] = []

    def command(*given: str, location: Path | None) -> list[str]:
        arguments.extend(given)
        return [sys.executable, str(FAKE), "progress", str(root)]

    monkeypatch.setattr(addon_module("setup.supervision"), "setup_command", command)
    return arguments


@pytest.fixture
def settled(addon_module, pump):
    """Wait until the installer has ended; returns whether it succeeded."""

    def settled() -> bool:
        supervisor = addon_module("setup").supervisor
        assert supervisor.situation.phase == "installing"
        pump(lambda: not supervisor.situation.phase.is_busy, what="the end of the task")
        return supervisor.situation.phase != "failed"

    return settled


def test_from_a_folder_of_wheels(asked, settled, tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "torch-2.13.0-py3-none-any.whl").touch()
    assert not bpy.app.online_access, "no network is needed"
    assert ops.environment_setup_offline(directory=str(wheels)) == {"FINISHED"}
    assert asked == ["--offline-wheels", str(wheels)]
    assert settled()


def test_repair(asked, settled, root, addon_module):
    root.mkdir()
    (root / addon_module("..backend.environment").OWNER_FILE).write_text("ours")
    addon_module("setup").supervisor.refresh()
    bpy.context.preferences.system.use_online_access = True
    try:
        assert ops.environment_repair() == {"FINISHED"}
    finally:
        bpy.context.preferences.system.use_online_access = False
    assert asked == ["--repair"]
    assert settled()
