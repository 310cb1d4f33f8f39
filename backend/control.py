"""What people want of a running job, kept where the run looks between two steps.

The threads that read commands (or a signal handler) write a `Control`, the run reads it. Every method may be called from any thread.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable

from .protocol import Cancel, Command, Detach, Pause, PreviewNow, Resume, Stop, Weight

__all__ = ["Control", "JobCancelled"]

_log = logging.getLogger(__name__)


class JobCancelled(Exception):
    """Raised inside a run that was told to end without a result."""


class Control:
    """Requests to one run.

    A loop that respects it::

        def serve():
            for region, factor in control.take_weights(len(grid)).items(): ...
            for region in control.take_previews(len(grid)): ...

        while not control.should_stop:
            control.wait_if_paused(lambda paused: emit(Paused(paused=paused)), serve)
            if control.should_cancel:
                write_checkpoint()
            control.raise_if_cancelled()
            serve()
            step()
    """

    def __init__(self) -> None:
        # A reentrant lock: a signal handler may call in while the main thread is inside one of these methods.
        self._changed = threading.Condition(threading.RLock())
        self._paused = False
        self._stop = False
        self._cancel_reason = ""
        self._previews: dict[int, None] = {}  # an ordered set
        self._weights: dict[int, float] = {}
        self._detached = False
        self._lease = 0.0
        self._heard = time.monotonic()
        self.has_unsaved = True
        """Whether steps may be lost if the process ends now. The run says so; until it does, that is supposed."""

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
            self._changed.notify_all()

    def request_preview(self, region: int = -1) -> None:
        """Ask for a picture of the asset (-1), or of what a region's middle camera sees. Asked twice before it is made, it is made once.

        Raises:
            ValueError: a region below -1.
        """
        if region < -1:
            raise ValueError(f"regions are numbered from 0, not {region}")
        with self._changed:
            self._previews[region] = None
            self._changed.notify_all()

    def detach(self, lease: float = 0.0) -> None:
        """Whoever started the run goes away, which is no reason to end it any more. See `protocol.Detach`.

        With a lease of 0 nobody may ever end a pause, so a run that is paused is told to write a checkpoint and go instead.

        Raises:
            ValueError: a lease that is negative or not finite.
        """
        if not (math.isfinite(lease) and lease >= 0):
            raise ValueError(f"a lease must be a number of seconds from 0 up, not {lease}")
        with self._changed:
            self._detached, self._lease, self._heard = True, lease, time.monotonic()
            self._changed.notify_all()
            if lease == 0 and self._paused:
                self.interrupt()

    @property
    def detached(self) -> bool:
        """Whether the run is to go on though whoever started it is gone."""
        return self._detached

    @property
    def lease_has_run_out(self) -> bool:
        """Whether no command has come for longer than the lease of a `detach` allows."""
        with self._changed:
            return self._lease > 0 and time.monotonic() - self._heard > self._lease

    def wait_until_detached(self, timeout: float) -> bool:
        """Wait for a `detach` that may still be on its way; False if none came, or the run has to end anyway."""
        with self._changed:
            self._changed.wait_for(lambda: self._detached or self._cancel_reason, timeout)
            return self._detached

    def apply(self, command: Command) -> None:
        """Do what a command of the wire says; any of them renews the lease. Raises `ValueError` for numbers that make no sense."""
        with self._changed:
            self._heard = time.monotonic()
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
            case PreviewNow(region=region):
                self.request_preview(region)
            case Detach(lease=lease):
                self.detach(lease)

    def wait_if_paused(self, on_change: Callable[[bool], None] | None = None, serve: Callable[[], None] | None = None) -> None:
        """Block while paused; at once back otherwise.

        Args:
            on_change: told True when the wait begins and False when it ends.
            serve: called, by this thread, whenever weights or previews are asked for during the wait; has to take them.
        """
        if self._goes_on():
            return
        if on_change:
            on_change(True)
        while not self._goes_on():
            with self._changed:
                # A bounded wait, so that the main thread also meets its signals where a wait cannot be interrupted (Windows).
                self._changed.wait_for(lambda: self._goes_on() or (serve is not None and self._is_asked()), timeout=0.5)
            if serve is not None and self._is_asked():
                serve()
        if on_change:
            on_change(False)

    def _goes_on(self) -> bool:
        return not self._paused

    def _is_asked(self) -> bool:
        return bool(self._weights or self._previews)

    def raise_if_cancelled(self) -> None:
        """Raises `JobCancelled` once the run was told to end without a mesh; cheap enough for the inside of long phases."""
        if self._cancel_reason:
            raise JobCancelled(self._cancel_reason)

    def take_weights(self, count: int) -> dict[int, float]:
        """The weights asked for since the last call, {region: factor}, for a grid of `count` regions; others are dropped and logged."""
        with self._changed:
            weights, self._weights = self._weights, {}
        _tell_strangers("weight", weights, count)
        return {region: factor for region, factor in weights.items() if region < count}

    def take_previews(self, count: int) -> list[int]:
        """What pictures were asked for since the last call, each once: regions of a grid of `count`, and -1 for that of the whole asset."""
        with self._changed:
            previews, self._previews = self._previews, {}
        _tell_strangers("preview", previews, count)
        return [region for region in previews if region < count]


def _tell_strangers(what: str, regions: Iterable[int], count: int) -> None:
    strangers = [region for region in regions if region >= count]
    if strangers:
        _log.warning("ignored the %s of regions %s: there are %d", what, strangers, count)
