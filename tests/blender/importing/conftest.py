"""Fixtures for what comes into the scene: a finished job, known to the session, and an object made from it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

try:
    import bpy
except ImportError:  # the pytest that only starts Blender reads this file too
    bpy = None


@pytest.fixture
def session(addon_module: Callable[[str], ModuleType]) -> ModuleType:
    return addon_module("session")


@pytest.fixture
def results(addon_module: Callable[[str], ModuleType]) -> ModuleType:
    return addon_module("importing.results")


@pytest.fixture
def job(session: ModuleType, finished_job: Path) -> Any:
    """The finished job as the session knows it, selected."""
    session.manager().scan()
    session.select_job(finished_job.name)
    return session.selected_job()


@pytest.fixture
def another_job(session: ModuleType, finished_job: Path) -> Callable[..., Any]:
    """`another_job(name, spec={...})` makes one more finished job: the same with these fields of its `spec.json` changed."""

    def make(name: str, spec: dict[str, Any] | None = None) -> Any:
        folder = Path(shutil.copytree(finished_job, finished_job.with_name(name)))
        document = json.loads((folder / "spec.json").read_text())
        (folder / "spec.json").write_text(json.dumps(document | (spec or {})))
        session.manager().scan()
        return session.manager().get(name)

    return make


@pytest.fixture
def thing(job: Any) -> bpy.types.Object:
    """The object imported from the job, by the operator: active and selected."""
    assert bpy.ops.cograd3d.import_result(job=job.id) == {"FINISHED"}
    return bpy.context.active_object


@pytest.fixture
def rendering(addon_module: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """`rendering(True)`: a render begins, `rendering(False)`: it is done."""

    def set_rendering(value: bool) -> None:
        for name in ("importing.undo", "importing.preview", "ui.icons"):
            monkeypatch.setattr(addon_module(name), "is_file_locked", lambda: value)

    return set_rendering


@pytest.fixture
def select() -> Callable[[bpy.types.Object], None]:
    """Make an object the active one and the only one that is selected."""

    def select(thing: bpy.types.Object) -> None:
        bpy.context.view_layer.update()
        for other in bpy.context.view_layer.objects:
            other.select_set(other == thing)
        bpy.context.view_layer.objects.active = thing

    return select
