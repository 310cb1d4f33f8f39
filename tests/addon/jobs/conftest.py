"""Managers over workers that play a part: `tests/backend/fake_worker.py` for those that behave, `bad_worker.py` for those that do not."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cograd3d.backend.protocol import Event, JobSpec
from cograd3d.cograd3d_addon.jobs import Job, JobManager, Patience
from cograd3d.cograd3d_addon.jobs.child import pid_is_alive

FAKE = Path(__file__).parents[2] / "backend" / "fake_worker.py"
BAD = Path(__file__).with_name("bad_worker.py")
LIMIT = 20.0
SLOWEST_TICK = 1.0
"""Seconds; far above what a tick takes on a busy machine, far below any waiting for a process."""


@dataclass
class Stage:
    """A folder for jobs and the managers that look into it, one after the other as when the add-on is reloaded."""

    root: Path
    part: str = "steps"
    patience: Patience = field(default_factory=Patience)
    events: list[tuple[str, Event]] = field(default_factory=list)
    pids: set[int] = field(default_factory=set)
    slowest: float = 0.0

    def __post_init__(self) -> None:
        self.manager = self.new_manager()

    def new_manager(self, **options: object) -> JobManager:
        """Another manager, as after a reload or in another Blender; it becomes the one that is pumped."""
        self.manager = JobManager(self.root, self._command, patience=self.patience, **options)
        self.manager.listeners.append(self._note)
        return self.manager

    def _command(self, folder: object) -> list[str]:
        script = BAD if self.part.startswith("bad-") else FAKE
        return [sys.executable, str(script), str(folder.path), self.part.removeprefix("bad-")]

    def _note(self, job: Job, event: Event) -> None:
        self.events.append((job.id, event))
        if event.type == "hello":
            self.pids.add(event.pid)

    def submit(self, part: str = "", **options: object) -> Job:
        self.part = part or self.part
        return self.manager.submit(JobSpec(prompt="a red cat"), {}, **options)

    def pump(self, condition: Callable[[], object], limit: float = LIMIT, what: str = "what was waited for") -> None:
        """Do what Blender's timer does until the condition holds."""
        deadline = time.monotonic() + limit
        while True:
            began = time.monotonic()
            self.manager.tick()
            self.slowest = max(self.slowest, time.monotonic() - began)
            if condition():
                return
            assert time.monotonic() < deadline, f"{what} did not come within {limit:g} s: {self.manager.jobs}"
            time.sleep(0.01)

    def finish(self, job: Job, limit: float = LIMIT) -> None:
        self.pump(lambda: job.status.is_over, limit, f"the end of {job.id}")

    def run_until(self, job: Job, iteration: int = 1) -> None:
        self.pump(lambda: job.progress is not None and job.progress.iteration >= iteration, what=f"iteration {iteration}")

    def told(self, job: Job, kind: str) -> list[Event]:
        return [event for id, event in self.events if id == job.id and event.type == kind]


def is_running(pid: int) -> bool:
    """Whether a process works still; one that has ended and that nobody has taken note of (a zombie) does not.

    Its first thread may be a zombie while others still end: until the last has, the process is there.
    """
    if not pid_is_alive(pid):
        return False
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # from the third on, the state
        return fields[0] != "Z" or int(fields[17]) > 1
    return True


def wait_until(condition: Callable[[], object], limit: float, what: str) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {limit:g} s"
        time.sleep(0.05)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """After the test: no tick took long, and no worker is left 10 seconds after the manager is gone."""
    monkeypatch.setenv("READER_SECONDS", "0.2")  # how long a fake worker waits for a reader that is gone
    stage = Stage(tmp_path / "jobs")
    yield stage
    stage.manager.close(keep_running=False, at_once=True)
    try:
        wait_until(lambda: not any(map(is_running, stage.pids)), 10.0, "the end of all workers")
    finally:
        for pid in filter(is_running, stage.pids):
            os.kill(pid, signal.SIGKILL)
    assert stage.slowest < SLOWEST_TICK, "a tick waited for something"
