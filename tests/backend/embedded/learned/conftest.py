"""Fixtures of the learned prior's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The world's cache in a folder of its own, with small banks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COGRAD3D_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
