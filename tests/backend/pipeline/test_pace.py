"""How fast a run is, by the last of its iterations."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backend.control import Control
from backend.embedded.exact_prior import ExactPrior
from backend.method.optimizer import Distillation
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


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_what_is_told_counts_how_the_image_models_steps_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, power: float) -> None:
    """By a clock on which a step takes a second at 64 pixels, and at 128 as many as the model says."""
    settled, now, left = config("optimizer.iterations=8", "optimizer.resolution_steps=[[0.0, 64], [0.5, 128]]"), 0.0, []
    monkeypatch.setattr("backend.pipeline.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(ExactPrior, "cost_power", power)
    step = Distillation.step

    def timed(self: Distillation) -> dict[str, Any]:
        nonlocal now
        now += (self.resolution / 64) ** power
        return step(self)

    monkeypatch.setattr(Distillation, "step", timed)
    execute(make_job(tmp_path, settled), settled, emit=lambda event: left.append(event.seconds_left) if is_of_a_step(event) else None)
    large = 2**power
    assert left == pytest.approx([-1, *(4 * large + small for small in (2, 1, 0)), *(count * large for count in (3, 2, 1, 0))])


def is_of_a_step(event: Event) -> bool:
    return isinstance(event, Progress) and event.phase == "optimise"


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
