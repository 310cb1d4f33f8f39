"""Fixtures for tests in Blender itself, on the installed extension: its zip, installed into a profile made for this run.

They run in the wheel `bpy` with plain pytest, and in a real Blender through pytest-blender. Neither has an event loop: timers never
fire, so tests pump `session.poll` themselves (`pump`).
"""

from __future__ import annotations

import importlib
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, TypeVar

import pytest

from tests.blender.extension_zip import EXTENSION, ROOT, extension_zip
from tests.blender.finished import make_finished_job

T = TypeVar("T")
_made_folders: list[str] = []
_EXIT_STATUS = pytest.StashKey[int]()

if "BLENDER_USER_RESOURCES" not in os.environ:  # must stand before Blender starts, which in the wheel is the import of bpy
    if "bpy" in sys.modules:
        pytest.exit("Set BLENDER_USER_RESOURCES to an empty folder: these tests install into the profile they find.", returncode=2)
    os.environ["BLENDER_USER_RESOURCES"] = tempfile.mkdtemp(prefix="cograd3d-profile-")
    _made_folders.append(os.environ["BLENDER_USER_RESOURCES"])

try:
    import bpy
except ImportError:
    bpy = None


def pytest_report_header() -> str:
    if bpy is None:
        return "tests/blender left out: this Python has no bpy"
    return f"Blender {bpy.app.version_string} ({bpy.app.binary_path or 'wheel'})"


def pytest_ignore_collect() -> bool | None:
    return None if bpy else True


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[_EXIT_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    for folder in _made_folders:
        shutil.rmtree(folder, ignore_errors=True)
    if bpy is not None and bpy.app.version < (4, 3) and not bpy.app.binary_path:
        # The module of 4.2 crashes when Python ends after a glTF export, with nothing of ours in it: the tests' result is the exit code.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash.get(_EXIT_STATUS, pytest.ExitCode.INTERNAL_ERROR))


@pytest.fixture(scope="session")
def zip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension as it is given to users."""
    return extension_zip(tmp_path_factory.mktemp("zip"), bpy.app.binary_path or None)


@pytest.fixture(scope="session")
def installed(zip_file: Path) -> str:
    """The extension's package name, installed from the zip and not enabled."""
    bpy.ops.extensions.package_install_files(filepath=str(zip_file), repo="user_default", enable_on_install=False)
    return EXTENSION


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This test's own folder for jobs and everything else that would land in the user's home."""
    monkeypatch.setenv("COGRAD3D_JOBS", str(tmp_path / "jobs"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


@pytest.fixture
def fresh_file() -> None:
    """An empty file with factory settings; preferences and enabled extensions stay as they are."""
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)


@pytest.fixture
def has_window() -> bool:
    """Whether the extension is to think that a timer runs it, so that operators do not wait for what they begin; `pump` is the timer."""
    return True


@pytest.fixture
def addon(installed: str, folders: Path, fresh_file: None, has_window: bool, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The enabled extension's package `cograd3d_addon`, in an empty file, without jobs; disabled again afterwards."""
    bpy.ops.preferences.addon_enable(module=installed)
    assert installed in bpy.context.preferences.addons, "the extension could not be enabled; the log says why"
    if has_window:
        monkeypatch.setattr(importlib.import_module(f"{installed}.cograd3d_addon.session"), "has_timer", lambda: True)
    try:
        yield importlib.import_module(f"{installed}.cograd3d_addon")
    finally:
        bpy.ops.preferences.addon_disable(module=installed)


@pytest.fixture
def addon_module(addon: ModuleType) -> Callable[[str], ModuleType]:
    """Modules of the installed extension: `addon_module("jobs.manager")`, `addon_module("..backend.protocol")`."""

    def load(name: str) -> ModuleType:
        return importlib.import_module(name if name.startswith(".") else f".{name}", addon.__name__)

    return load


@pytest.fixture
def pump(addon_module: Callable[[str], ModuleType]) -> Callable[..., object]:
    """`pump(condition, timeout=60, what="...")` does the timer's work until the condition holds, and returns its value."""
    session = addon_module("session")

    def pump(condition: Callable[[], T], timeout: float = 60.0, what: str = "the condition") -> T:
        deadline = time.monotonic() + timeout
        while True:
            session.poll()
            if value := condition():
                return value
            if time.monotonic() > deadline:
                pytest.fail(f"{what} did not come within {timeout:g} s")
            time.sleep(0.02)

    return pump


@pytest.fixture
def viewport(addon: ModuleType) -> Iterator[SimpleNamespace]:
    """Context of a 3D viewport; its space and its view."""
    window = bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    region = next(region for region in area.regions if region.type == "WINDOW")
    with bpy.context.temp_override(window=window, screen=window.screen, area=area, region=region):
        yield SimpleNamespace(space=area.spaces.active, view=area.spaces.active.region_3d)


@pytest.fixture
def metadata(addon_module: Callable[[str], ModuleType]) -> dict[str, Any]:
    """What an object with a grid of 36 views carries, whose job is gone."""
    from tests.screen import made_up  # numpy, which the pytest that only starts Blender may not have

    return made_up.metadata(lambda name: addon_module(f"..{name}" if name.startswith("backend") else name.split(".", 1)[1]))


@pytest.fixture
def asset(metadata: dict[str, Any]) -> bpy.types.Object:
    """A selected object that carries this."""
    bpy.ops.mesh.primitive_cube_add(size=1.0, location=(1.0, 2.0, 0.5))
    thing = bpy.context.active_object
    thing["cograd3d"] = metadata
    return thing


@pytest.fixture
def real_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers run for real, in the environment that $COGRAD3D_PYTHON or $COGRAD3D_ENV names."""
    if not (os.environ.get("COGRAD3D_PYTHON") or os.environ.get("COGRAD3D_ENV")):
        pytest.skip("no environment for a real worker: set COGRAD3D_PYTHON or COGRAD3D_ENV, or use `python3 -m nox`")


@pytest.fixture
def fake_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`fake_worker("steps")`: workers play that function of tests/backend/fake_worker.py instead of generating anything."""

    def choose(play: str) -> None:
        python = os.environ.get("COGRAD3D_TEST_PYTHON") or sys.executable
        script = tmp_path / f"fake-python-{play}"
        script.write_text(
            "#!/bin/sh\n"
            'while [ "$1" != "--job" ]; do shift; done\n'  # called as: PYTHON -P -m backend.cli worker --job FOLDER
            f'exec "{python}" "{ROOT / "tests" / "backend" / "fake_worker.py"}" "$2" {play}\n',
            encoding="utf-8",
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("COGRAD3D_PYTHON", str(script))

    return choose


@pytest.fixture
def session(addon_module: Callable[[str], ModuleType], pump: Callable[..., object]) -> Iterator[ModuleType]:
    """The extension's session; jobs that run are ended afterwards."""
    session = addon_module("session")
    yield session
    for job in session.manager().jobs:
        if not job.status.is_over:
            session.manager().cancel(job)
            pump(lambda job=job: job.status.is_over, what="the job's end")


@pytest.fixture
def ordered(
    session: ModuleType, fake_worker: Callable[[str], None], addon_module: Callable[[str], ModuleType], pump
) -> Callable[[str], Any]:
    """`ordered("long")`: the job of a worker that plays this, ordered with Generate and begun."""

    def order(play: str) -> Any:
        fake_worker(play)
        addon_module("setup").supervisor.refresh()
        bpy.context.scene.cograd3d.prompt, bpy.context.scene.cograd3d.quality = "a red cat", "normal"
        bpy.ops.cograd3d.generate()
        job = session.selected_job()
        pump(lambda: job.progress is not None or job.status.is_over, what="the run's first step")
        return job

    return order


@pytest.fixture
def prompts(addon_module: Callable[[str], ModuleType]) -> Iterator[Callable[[], Any]]:
    """The prompts used before, in a file of this test's own."""
    history = addon_module("operators.ordering").prompt_history
    history.cache_clear()
    yield history
    history.cache_clear()


@pytest.fixture(scope="session")
def finished_job_original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a real run at draft quality that ended well; not to be changed."""
    python = os.environ.get("COGRAD3D_TEST_PYTHON")
    if not python:
        pytest.skip("no environment for a real worker: set COGRAD3D_TEST_PYTHON, or use `python3 -m nox`")
    return make_finished_job(python, tmp_path_factory.mktemp("finished"))


@pytest.fixture
def finished_job(finished_job_original: Path, folders: Path) -> Path:
    """The folder of a finished job, "a golden teapot", in this test's folder of jobs. No checkpoint is in it."""
    return Path(shutil.copytree(finished_job_original, folders / "jobs" / finished_job_original.name))
