"""How fast a run is, by the last of its iterations."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from backend.control import Control
from backend.pace import Pace
from backend.protocol import Event, Progress

from .small_runs import config, execute, make_job


def test_the_first_iteration_says_nothing() -> None:
    """It compiles kernels for half a minute: nobody is to read that hours are left."""
    pace = Pace([64] * 10)
    assert (pace.per_second, pace.seconds_left) == (0, -1)
    pace.tick(1, 30.0)
    assert (pace.per_second, pace.seconds_left) == (0, -1)
    pace.tick(2, 30.5)
    pace.tick(3, 31.0)
    assert (pace.per_second, pace.seconds_left) == pytest.approx((2.0, 3.5))


def test_only_the_last_ones_count() -> None:
    pace = Pace([64] * 40, window=10)
    for done in range(1, 21):
        pace.tick(done, 10.0 * done)
    for done in range(21, 32):
        pace.tick(done, 1000 + 0.25 * done)
    assert (pace.per_second, pace.seconds_left) == pytest.approx((4.0, 9 / 4))


def test_larger_renders_take_longer() -> None:
    """Ten iterations of a second each, and ten with twice the edge that take twice as long."""
    pace, now = Pace([64] * 10 + [128] * 10), 0.0
    left = {}
    for done in range(1, 21):
        now += 1.0 if done <= 10 else 2.0
        pace.tick(done, now)
        left[done] = pace.seconds_left
    assert [left[done] for done in (2, 10, 12, 20)] == pytest.approx([28.0, 20.0, 16.0, 0.0])
    assert pace.per_second == pytest.approx(0.5)


def test_one_that_goes_on() -> None:
    pace = Pace([64] * 100)
    pace.tick(51, 0.0)
    pace.tick(52, 2.0)
    assert (pace.per_second, pace.seconds_left) == pytest.approx((0.5, 96.0))


def test_a_pause_makes_a_run_no_slower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock on which an iteration takes no time, and the pause an hour."""
    folder, control = make_job(tmp_path, config("optimizer.iterations=6")), Control()
    now, ticks = 100.0, []
    monkeypatch.setattr("backend.pipeline.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(Pace, "tick", lambda self, done, now: ticks.append(now))

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
