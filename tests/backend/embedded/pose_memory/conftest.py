"""Fixtures of the pose memory's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backend.embedded.pose_memory.pictures import Poses

POSES_HERE = 12


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The world's cache in a folder of its own, with small banks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COGRAD3D_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def poses(cache: None) -> Poses:
    """A few views of every object."""
    return Poses.render(POSES_HERE, 64)
