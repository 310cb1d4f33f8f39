"""How fast a run is, by the last of its iterations."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from backend.control import Control
from backend.pipeline import Pace
from backend.protocol import Event, Progress

from .small_runs import config, execute, make_job


def test_the_first_iteration_says_nothing() -> None:
    """It compiles kernels for half a minute: nobody is to read that hours are left."""
    pace = Pace()
    assert pace.per_second == 0
    pace.tick(30.0)
    assert pace.per_second == 0
    pace.tick(30.5)
    pace.tick(31.0)
    assert pace.per_second == pytest.approx(2.0)


def test_only_the_last_ones_count() -> None:
    pace = Pace(window=11)
    for iteration in range(20):
        pace.tick(10.0 * iteration)
    for iteration in range(11):
        pace.tick(1000 + 0.25 * iteration)
    assert pace.per_second == pytest.approx(4.0)


def test_a_pause_makes_a_run_no_slower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock on which an iteration takes no time, and the pause an hour."""
    folder, control = make_job(tmp_path, config("optimizer.iterations=6")), Control()
    now, ticks = 100.0, []
    monkeypatch.setattr("backend.pipeline.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(Pace, "tick", lambda self, at: ticks.append(at))

    def wait(self: Control, *told: object) -> None:
        nonlocal now
        now += 3600.0
        self.resume()

    def pause(event: Event) -> None:
        if isinstance(event, Progress) and event.iteration == 1:
            control.pause()

    monkeypatch.setattr(Control, "wait_if_paused", wait)
    execute(folder, config("optimizer.iterations=6"), control, pause)
    assert now == 3700.0
    assert ticks == [100.0] * 6
