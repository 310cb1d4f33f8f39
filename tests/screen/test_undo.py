"""Undo, redo and Adjust Last Operation around a result that comes by itself."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.blender.finished import JOB, make_finished_job


@pytest.fixture
def finished_job(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a finished job among this run's."""
    python = os.environ.get("COGRAD3D_TEST_PYTHON")
    if not python:
        pytest.skip("no environment for a real worker: set COGRAD3D_TEST_PYTHON, or use `python3 -m nox`")
    shutil.copytree(make_finished_job(python, tmp_path_factory.mktemp("finished")), tmp_path / "jobs" / JOB)
    return JOB


def test_adjusting_the_last_operation_leaves_a_result_that_came_meanwhile(play, finished_job):
    values = play("adjusting", job=finished_job, adjust=True).values
    assert set(values["brought"]) - set(values["before"]) == {"a golden teapot"}
    assert values["adjusted"] == values["brought"]


def test_a_result_that_came_by_itself_is_one_step(play, finished_job):
    values = play("adjusting", job=finished_job, adjust=False).values
    assert values["undone"] == values["before"], "one step back takes the import alone"
    assert values["redone"] == values["brought"]
