"""What people want of a running job, kept where the run looks between two steps.

The thread that reads commands (or a signal handler) writes a `Control`, the run reads it. Every method may be called from any thread.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable

from .protocol import Cancel, Command, Pause, PreviewNow, Resume, Stop, Weight

__all__ = ["Control", "JobCancelled"]

_log = logging.getLogger(__name__)


class JobCancelled(Exception):
    """Raised inside a run that was told to end without a result."""


class Control:
    """Requests to one run.

    A loop that respects it::

        while not control.should_stop:
            control.wait_if_paused(lambda paused: emit(Paused(paused=paused)))
            if control.should_cancel:
                write_checkpoint()
            control.raise_if_cancelled()
            for region, factor in control.take_weights(len(grid)).items(): ...
            if control.take_preview_request(): ...
            step()
    """

    def __init__(self) -> None:
        # A reentrant lock: a signal handler may call in while the main thread is inside one of these methods.
        self._changed = threading.Condition(threading.RLock())
        self._paused = False
        self._stop = False
        self._cancel_reason = ""
        self._preview = False
        self._weights: dict[int, float] = {}

    @property
    def paused(self) -> bool:
        """Whether the run is to stand still. Stopping or cancelling ends a pause."""
        return self._paused

    @property
    def should_stop(self) -> bool:
        """Whether to optimise no further and make the mesh now."""
        return self._stop

    @property
    def should_cancel(self) -> bool:
        """Whether to write a checkpoint and end without a mesh, for whichever reason."""
        return bool(self._cancel_reason)

    @property
    def cancel_reason(self) -> str:
        """`cancelled` if somebody wanted it so, `interrupted` if the process has to go; empty while neither is the case."""
        return self._cancel_reason

    def pause(self) -> None:
        """Ask the run to stand still; without effect once it was told to stop or cancel."""
        with self._changed:
            self._paused = not (self._stop or self._cancel_reason)

    def resume(self) -> None:
        """End a pause."""
        with self._changed:
            self._paused = False
            self._changed.notify_all()

    def stop(self) -> None:
        """Ask for the mesh of what is there."""
        with self._changed:
            self._stop = True
            self.resume()

    def cancel(self) -> None:
        """Ask the run to end without a mesh; it stays resumable."""
        self._end("cancelled")

    def interrupt(self) -> None:
        """As `cancel`, because the process has to go (Ctrl-C, closed stdin, a signal) and not because anybody gave the job up."""
        self._end("interrupted")

    def _end(self, reason: str) -> None:
        with self._changed:
            self._cancel_reason = self._cancel_reason or reason
            self.resume()

    def set_weights(self, regions: Iterable[int], factor: float) -> None:
        """Ask for the probability of regions to be multiplied by `factor`; the latest request for a region counts.

        Raises:
            ValueError: a factor that is negative or not finite, a negative region.
        """
        regions = tuple(regions)
        if not (math.isfinite(factor) and factor >= 0):
            raise ValueError(f"a region's weight must be a number from 0 up, not {factor}")
        if any(region < 0 for region in regions):
            raise ValueError(f"regions are numbered from 0, not {min(regions)}")
        with self._changed:
            self._weights.update(dict.fromkeys(regions, float(factor)))

    def request_preview(self) -> None:
        """Ask for a preview after the current step."""
        with self._changed:
            self._preview = True

    def apply(self, command: Command) -> None:
        """Do what a command of the wire says. Raises `ValueError` for a weight that makes no sense."""
        match command:
            case Pause():
                self.pause()
            case Resume():
                self.resume()
            case Stop():
                self.stop()
            case Cancel():
                self.cancel()
            case Weight(regions=regions, factor=factor):
                self.set_weights(regions, factor)
            case PreviewNow():
                self.request_preview()

    def wait_if_paused(self, on_change: Callable[[bool], None] | None = None) -> None:
        """Block while paused; at once back otherwise. `on_change` is told True when the wait begins and False when it ends."""
        if not self._paused:
            return
        if on_change:
            on_change(True)
        with self._changed:
            # Bounded waits, so that the main thread also meets its signals where a wait cannot be interrupted (Windows).
            while not self._changed.wait_for(lambda: not self._paused, timeout=0.5):
                pass
        if on_change:
            on_change(False)

    def raise_if_cancelled(self) -> None:
        """Raises `JobCancelled` once the run was told to end without a mesh; cheap enough for the inside of long phases."""
        if self._cancel_reason:
            raise JobCancelled(self._cancel_reason)

    def take_weights(self, count: int) -> dict[int, float]:
        """The weights asked for since the last call, {region: factor}, for a grid of `count` regions; others are dropped and logged."""
        with self._changed:
            weights, self._weights = self._weights, {}
        strangers = [region for region in weights if region >= count]
        if strangers:
            _log.warning("ignored the weight of regions %s: there are %d", strangers, count)
        return {region: factor for region, factor in weights.items() if region < count}

    def take_preview_request(self) -> bool:
        """Whether a preview was asked for since the last call."""
        with self._changed:
            wanted, self._preview = self._preview, False
        return wanted
