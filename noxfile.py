"""Test sessions: `python3 -m nox` (lint and tests), `python3 -m nox -s slow`, `python3 -m nox -s tests -- tests/backend/test_cli.py`.

`tests` and `slow` run in an environment that CoGrad3D's own installer makes in .nox/environment, so that every run tests the installer too.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nox

ROOT = Path(__file__).parent
ENVIRONMENT = ROOT / ".nox" / "environment"

nox.options.sessions = ["lint", "tests"]
nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True


@nox.session
def lint(session: nox.Session) -> None:
    """Style and types."""
    session.install("ruff==0.17.6", "mypy==2.4.1", "numpy==2.4.6")
    session.run("ruff", "check", ".")
    session.run("mypy")


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """The everyday tests."""
    run_tests(session, "not slow")


@nox.session(venv_backend="none")
def slow(session: nox.Session) -> None:
    """The tests that take more than ten seconds each."""
    run_tests(session, "slow")


def run_tests(session: nox.Session, marker: str) -> None:
    """Install or complete the environment, then run the tests with this marker in it."""
    sys.path.insert(0, str(ROOT))
    from backend.environment import Environment, child_environ

    python = str(Environment(ENVIRONMENT).python)
    # A variable instead of --location: the developer's own choice of a location is not to be touched.
    session.run(sys.executable, "-m", "backend", "setup", "--yes", env={"COGRAD3D_ENV": str(ENVIRONMENT)}, external=True)
    session.run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "tests/requirements.txt", external=True)
    session.run(
        python, "-m", "pytest", "-m", marker, "--durations=10", *session.posargs,
        env=child_environ() | {"COGRAD3D_ENV": str(ENVIRONMENT)}, include_outer_env=False, external=True,
    )  # fmt: skip
