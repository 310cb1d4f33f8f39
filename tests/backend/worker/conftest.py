"""A job, and workers on it."""

import pytest

from backend.job import JobFolder
from backend.protocol import JobSpec

from .client import Client


@pytest.fixture
def folder(tmp_path):
    return JobFolder.create(tmp_path, JobSpec(prompt="a red cat"), {})


@pytest.fixture
def start(folder):
    clients = []

    def begin(job="steps", path=folder.path, **options):
        clients.append(Client(path, job, **options))
        return clients[-1]

    yield begin
    for client in clients:
        client.process.kill()
        client.process.wait()
