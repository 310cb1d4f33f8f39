"""How fast a run is, and how long it still takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import accumulate


class Pace:
    """Iterations a second, and the seconds that are left.

    Runs begin with small renders, and an iteration with larger ones takes longer: how much longer is taken to be known beforehand, and
    what is measured is work a second. The first iteration, in which kernels are compiled and memory is laid out, does not count.

    Args:
        work: of each iteration, in any unit (`DiffusionPrior.cost_power`).
        window: iterations that the speed is measured over, at most.
    """

    def __init__(self, work: Sequence[float], window: int = 50) -> None:
        self._work = list(accumulate(work, initial=0.0))
        self._ends: deque[tuple[int, float]] = deque(maxlen=window + 1)

    def tick(self, done: int, now: float) -> None:
        """So many iterations are done, at this time of a clock that stands still while the run does, in seconds."""
        self._ends.append((done, now))

    @property
    def per_second(self) -> float:
        """Iterations a second, at the last one's resolution; 0 while unknown."""
        done = self._ends[-1][0] if self._ends else 0
        return self._speed / (self._work[done] - self._work[done - 1]) if self._speed else 0.0

    @property
    def seconds_left(self) -> float:
        """Of the iterations; -1 while unknown."""
        return (self._work[-1] - self._work[self._ends[-1][0]]) / self._speed if self._speed else -1.0

    @property
    def _speed(self) -> float:
        """Work a second; 0 while unknown."""
        if len(self._ends) < 2:
            return 0.0
        (first, began), (last, ended) = self._ends[0], self._ends[-1]
        return (self._work[last] - self._work[first]) / (ended - began) if ended > began else 0.0
