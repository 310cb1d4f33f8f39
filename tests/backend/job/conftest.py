"""A job's folder."""

import pytest

from backend.job import JobFolder
from backend.protocol import JobSpec

from .folders import CONFIG


@pytest.fixture
def folder(tmp_path):
    return JobFolder.create(tmp_path / "jobs", JobSpec(prompt="a red cat"), CONFIG)
