"""Fixtures for tests in a real Blender window under Xvfb, `play("scenario_name")`: outside Blender, once for each Blender given."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.blender.extension_zip import extension_zip
from tests.blender.finished import JOB, make_finished_job
from tests.screen.driver import BlenderRun, Outcome, install

BLENDERS_VARIABLE = "COGRAD3D_TEST_BLENDERS"


def given_blenders() -> list[Path]:
    """The executables that $COGRAD3D_TEST_BLENDERS names (separated as in PATH), else the one that $BLENDER_EXECUTABLE does."""
    names = os.environ.get(BLENDERS_VARIABLE) or os.environ.get("BLENDER_EXECUTABLE") or ""
    return [Path(name) for name in names.split(os.pathsep) if name]


def pytest_report_header() -> str:
    return f"Blenders for tests/screen: {', '.join(map(str, given_blenders())) or 'none'}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "blender" in metafunc.fixturenames:
        metafunc.parametrize("blender", given_blenders() or [None], ids=lambda path: path.parent.name if path else "none", scope="session")


@pytest.fixture(scope="session")
def zip_file(blender: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return extension_zip(tmp_path_factory.mktemp("zip"), str(blender))


@pytest.fixture(scope="session")
def installed_profile(blender: Path | None, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A profile with the extension installed from its zip and enabled; every run gets a copy."""
    if blender is None:
        pytest.skip(f"no Blender: set BLENDER_EXECUTABLE or {BLENDERS_VARIABLE}, or use `python3 -m nox -s screen`, which provides some")
    if shutil.which("Xvfb") is None:
        pytest.skip("no Xvfb: `sudo apt-get install xvfb`")
    folder = tmp_path_factory.mktemp("installed")
    install(blender, request.getfixturevalue("zip_file"), folder / "profile", private_folders(folder))
    return folder / "profile"


def private_folders(folder: Path) -> dict[str, str]:
    """Variables that keep a Blender and its workers from touching anything outside `folder`."""
    (folder / "tmp").mkdir(exist_ok=True)
    return {"COGRAD3D_JOBS": str(folder / "jobs"), "XDG_DATA_HOME": str(folder / "data"), "TMPDIR": str(folder / "tmp")}


@pytest.fixture
def start(blender: Path, installed_profile: Path, tmp_path: Path) -> Callable[..., contextlib.AbstractContextManager[BlenderRun]]:
    """`with start("scenario_name", argument=value) as run:` opens Blender in a window; afterwards no process of it is left.

    All runs of a test share its jobs folder and its profile, as the runs of one user do.
    """
    profile = tmp_path / "profile"
    shutil.copytree(installed_profile, profile)
    environ = private_folders(tmp_path)
    count = 0

    @contextlib.contextmanager
    def start(scenario: str, **arguments: object) -> Iterator[BlenderRun]:
        nonlocal count
        count += 1
        folder = tmp_path / f"{count}-{scenario}"
        with BlenderRun(blender, profile, folder, scenario, environ=environ, arguments=arguments) as run:
            yield run

    return start


@pytest.fixture
def play(start: Callable[..., contextlib.AbstractContextManager[BlenderRun]]) -> Callable[..., Outcome]:
    """`outcome = play("scenario_name", timeout=120, argument=value)`: a whole scenario, which must succeed, leave no process, and have
    Blender complain of nothing.
    """

    def play(scenario: str, timeout: float = 120.0, **arguments: object) -> Outcome:
        with start(scenario, **arguments) as run:
            outcome = run.finish(timeout)
        assert not outcome.failure, outcome.failure
        assert not outcome.left, f"still running 10 s after Blender's end: {outcome.left}"
        assert not outcome.complaints, f"Blender's log ({outcome.folder}) has:\n{outcome.complaints}"
        return outcome

    return play


@pytest.fixture
def finished_job(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a finished job among this run's."""
    python = os.environ.get("COGRAD3D_TEST_PYTHON")
    if not python:
        pytest.skip("no environment for a real worker: set COGRAD3D_TEST_PYTHON, or use `python3 -m nox`")
    shutil.copytree(make_finished_job(python, tmp_path_factory.mktemp("finished")), tmp_path / "jobs" / JOB)
    return JOB


@pytest.fixture
def real_worker() -> None:
    """Workers run for real, in the environment that $COGRAD3D_PYTHON or $COGRAD3D_ENV names."""
    if not (os.environ.get("COGRAD3D_PYTHON") or os.environ.get("COGRAD3D_ENV")):
        pytest.skip("no environment for a real worker: set COGRAD3D_PYTHON or COGRAD3D_ENV, or use `python3 -m nox`")
