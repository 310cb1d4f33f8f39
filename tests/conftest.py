"""Settings that must stand before torch and numba load, and what tests of processes share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.pop("PYTHONUNBUFFERED", None)  # as users have it: what a process prints waits in a buffer, until its exit at the latest


@pytest.fixture(scope="session")
def is_alive() -> Callable[[int], bool]:
    """Whether a process runs; one that ended and was not waited for (a zombie) does not."""

    def ask(pid: int) -> bool:
        try:
            os.kill(pid, 0)
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except ProcessLookupError:
            return False
        except OSError:  # no such folder on this system
            return True

    return ask


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., None]:
    """Waits for a condition; fails if it does not come."""

    def wait(reached: Callable[[], object], limit: float = 30.0) -> None:
        deadline = time.monotonic() + limit
        while not reached():
            assert time.monotonic() < deadline, f"it did not come within {limit:g} s"
            time.sleep(0.02)

    return wait
