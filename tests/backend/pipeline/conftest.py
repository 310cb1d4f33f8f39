"""One cache for all small runs, and one whole run that tests look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.job import JobFolder
from backend.protocol import Event, Result

from .small_runs import config, execute, make_job


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module", autouse=True)
def cache(cache_folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COGRAD3D_CACHE", str(cache_folder))
        yield


@pytest.fixture(scope="session")
def finished(cache_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[JobFolder, Result, list[Event]]:
    root = tmp_path_factory.mktemp("finished")
    events: list[Event] = []
    folder = make_job(root, config(), outputs=(str(root / "cat.glb"), str(root / "cat.obj")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COGRAD3D_CACHE", str(cache_folder))
        return folder, execute(folder, config(), emit=events.append), events
