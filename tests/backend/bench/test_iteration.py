"""The stopwatch of `bench iteration`, with a clock that is wound by hand."""

from __future__ import annotations

import pytest

from backend.bench.iteration import Stopwatch


def test_times_are_exclusive():
    now = [0.0]
    watch = Stopwatch(clock=lambda: now[0])

    def passes(seconds: float) -> None:
        now[0] += seconds

    inner = watch.timed("inner", passes)

    def outer_work() -> str:
        passes(1.0)
        inner(2.0)
        inner(4.0)
        passes(8.0)
        return "done"

    outer = watch.timed("outer", outer_work)
    assert outer() == "done"
    assert watch.seconds == {"inner": 6.0, "outer": 9.0}
    inner(16.0)
    assert watch.seconds == {"inner": 22.0, "outer": 9.0}


def test_a_failure_is_timed_and_passed_on():
    now = [0.0]
    watch = Stopwatch(clock=lambda: now[0])

    def fail() -> None:
        now[0] += 3.0
        raise ValueError

    with pytest.raises(ValueError):
        watch.timed("part", fail)()
    assert watch.seconds == {"part": 3.0}


def test_the_device_is_waited_for_before_and_after():
    log: list[str] = []
    Stopwatch(synchronize=lambda: log.append("wait")).timed("part", lambda: log.append("work"))()
    assert log == ["wait", "work", "wait"]
