"""Asking the worker for pictures of regions, seldom enough that it gets on with its work. No bpy."""

from __future__ import annotations

PAUSE = 0.7
"""Seconds between any two requests."""

REFRESH = 5.0
"""Seconds after which a region's picture is asked for again while it stays selected."""


class PictureRequests:
    """Decides when a picture is to be asked for."""

    def __init__(self) -> None:
        self._last = float("-inf")
        self._asked: dict[tuple[str, int], tuple[float, int]] = {}

    def is_due(self, source: str, region: int, iteration: int, now: float) -> bool:
        """Whether to ask for a picture now; yes counts as having asked.

        Args:
            source: the job's id.
            region: the region that is shown.
            iteration: how far the run is: without progress a picture stays the same.
            now: a clock, seconds.
        """
        moment, at = self._asked.get((source, region), (float("-inf"), -1))
        if now - self._last < PAUSE or now - moment < REFRESH or iteration == at:
            return False
        self._last = now
        self._asked[source, region] = (now, iteration)
        return True
