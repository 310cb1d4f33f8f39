"""Looking after one running worker: what it says, whether it still says anything, and its end. No bpy."""

from __future__ import annotations

import contextlib
import logging
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeGuard

from ...backend.errors import CoGradError, ProtocolError
from ...backend.protocol import Bye, Cancel, Command, Event, Failure, Hello, Notice, Pause, Resume, Stop, check_hello, decode_event
from ...backend.wire import LineError
from .channel import Channel, FileChannel
from .job import Job, JobStatus, Wish, read_tail

__all__ = ["Listener", "Patience", "Run", "unknown_failure"]

Listener = Callable[[Job, Event], None]

_READ_BYTES = 1 << 20
_MAX_WAITING = 10_000
"""Lines that may wait here to be heard (those of one read more at most); the next ones wait in the pipe, and with it their writer."""

_PROGRESS, _REGIONS = b'{"type": "progress"', b'{"type": "regions"'
"""How lines begin that need not be read once a later one of their kind is there."""

_REGIONS_INTERVAL = 0.2
"""Seconds between two region events that are read: they are long, and nobody sees more of them. The latest is never left out."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds.

    Attributes:
        silence: for a word of a worker, before it is shown as not responding.
        silence_loading: the same while it loads or fetches its image model.
        cancel: for a worker that was told to cancel, before its process is asked to end.
        terminate: for a process that was asked to end, or said it would, before it is ended.
    """

    silence: float = 60.0
    silence_loading: float = 600.0
    cancel: float = 30.0
    terminate: float = 10.0


class Run:
    """A job that a process works on, from its start (or from where it was found) to its end.

    Args:
        job: kept up to date.
        channel: the process.
        tell: called with every event, after the job has taken it.
        log_start: bytes of the worker's log that are about earlier processes.
    """

    def __init__(self, job: Job, channel: Channel, tell: Listener, patience: Patience, *, log_start: int = 0) -> None:
        self.job, self.channel = job, channel
        self.is_over = False
        self._tell, self._patience, self._log_start = tell, patience, log_start
        self._lines: deque[bytes | LineError] = deque()
        self._regions: bytes | None = None  # the latest region event, if it was not read yet
        self._regions_read_at = -_REGIONS_INTERVAL
        self._heard_at = time.monotonic()
        self._greeted = isinstance(channel, FileChannel)  # who comes late has missed the greeting
        self._unreachable = ""
        self._bye: Bye | None = None
        self._refused: Failure | None = None
        self._ending: deque[tuple[float, Callable[[], object]]] = deque()  # (moment, what to do if it is still there then)

    # --- telling it

    def send(self, command: Command) -> None:
        """Tell the worker something and remember what was asked of it. Raises `CoGradError` if that is not possible."""
        if isinstance(command, Cancel) and self.job.wish is Wish.CANCEL:
            self._end_soon(0.0)  # asked for twice: no more patience
            return
        self.channel.send(command)
        match command:
            case Pause():
                self.job.wish = Wish.PAUSE
            case Resume():
                self.job.wish = Wish.UNPAUSE
            case Stop():
                self.job.wish, self.job.status = Wish.STOP, JobStatus.STOPPING
            case Cancel():
                self.job.wish, self.job.status = Wish.CANCEL, JobStatus.STOPPING
                self._end_soon(self._patience.cancel)
        self.job.changed()

    def _end_soon(self, patience: float) -> None:
        """Ask the process to end if it is still there after `patience` seconds, and end it some time later."""
        now = time.monotonic()
        self._ending = deque([(now + patience, self._terminate), (now + patience + self._patience.terminate, self._kill)])

    def _terminate(self) -> None:
        if not self.channel.terminate():
            self._say(
                Notice(
                    code="foreign",
                    message="The process that works on this job does not obey, and it is not this Blender's to end.",
                    remedy="End it where it was started.",
                )
            )
            self._ending.clear()

    def _kill(self) -> None:
        _log.warning("%s: the worker did not end by itself", self.job.id)
        self.channel.kill()

    # --- hearing it

    def tick(self, deadline: float) -> bool:
        """Do what there is to do, reading events until `deadline` (of `time.monotonic`), one at least. Returns whether anything changed."""
        version = self.job.version
        self._read()
        while self._lines:
            line = self._lines.popleft()
            if _is(line, _REGIONS):
                self._regions = line  # in place of an earlier one that nobody had time for
            elif not _is(line, _PROGRESS):
                self._hear_regions()  # whoever hears of a preview or the result is to know the regions of that time
                self._hear(line)
            elif not any(_is(later, _PROGRESS) for later in self._lines):
                self._hear(line)
            if time.monotonic() >= deadline:
                break
        if time.monotonic() - self._regions_read_at >= _REGIONS_INTERVAL:
            self._hear_regions()
        now = time.monotonic()
        self._watch_silence(now)
        while self._ending and self._ending[0][0] <= now:
            self._ending.popleft()[1]()
        if not self._lines and self.channel.at_end:
            self._hear_regions()
            self._conclude()
        return self.job.version != version

    def _read(self) -> None:
        if len(self._lines) >= _MAX_WAITING:
            return
        try:
            lines = self.channel.read(_READ_BYTES)
        except CoGradError as error:
            if self._unreachable != error.message:  # once, not at every tick
                self._unreachable = error.message
                self._say(Notice(code=error.code, message=error.message, remedy=error.remedy))
            return
        if lines:
            self._lines.extend(lines)
            self._heard_at = time.monotonic()

    def _hear_regions(self) -> None:
        if self._regions is not None:
            line, self._regions = self._regions, None
            self._regions_read_at = time.monotonic()
            self._hear(line)

    def _hear(self, line: bytes | LineError) -> None:
        try:
            if isinstance(line, LineError):
                raise line
            event = decode_event(line)
        except LineError as error:
            self._count_bad_line(error)
            return
        if event is None or self._refused:
            return
        if isinstance(event, Hello):
            self._greeted = True
            try:
                check_hello(event)
            except ProtocolError as error:
                self._refuse(error)
                return
        elif isinstance(event, Bye):
            self._bye = event
            self._end_soon(self._patience.terminate)
            return  # it counts once the process is gone
        self._say(event)

    def _say(self, event: Event) -> None:
        self.job.apply(event)
        self._tell(self.job, event)

    def _count_bad_line(self, error: LineError) -> None:
        self.job.bad_lines += 1
        self.job.changed()
        if self.job.bad_lines == 1:
            _log.warning("%s: %s", self.job.id, error.message)
            self._say(Notice(code=error.code, message=f"The worker said something unreadable: {error.message}", remedy="It was ignored."))

    def _refuse(self, error: ProtocolError) -> None:
        """Nothing that this worker says can be trusted: have it end."""
        self._refused = Failure(code=error.code, message=error.message, remedy=error.remedy)
        self.job.wish, self.job.status = Wish.CANCEL, JobStatus.STOPPING
        self._say(self._refused)
        self.channel.leave()
        self._end_soon(min(2.0, self._patience.terminate))

    def _watch_silence(self, now: float) -> None:
        silent = now - self._heard_at
        patience = self._patience.silence_loading if self.job.phase == "prior" else self._patience.silence
        if self.job.status is JobStatus.PAUSED or silent < patience:
            if self.job.silent:
                self.job.silent = 0.0
                self.job.changed()
            return
        if not self.job.silent:
            self.job.silent = silent
            self._say(
                Notice(
                    code="silent",
                    message=f"The worker has said nothing for {silent:.0f} s.",
                    remedy="Wait if the computer is busy, or cancel the job: it can be taken up again from its last checkpoint.",
                )
            )
        elif int(silent) != int(self.job.silent):
            self.job.silent = silent
            self.job.changed()

    # --- its end

    def _conclude(self) -> None:
        """The process is gone: find out what became of the job."""
        self.channel.release()
        self.is_over = True
        end = self._bye
        if self._refused is not None:
            self.job.error, end = self._refused, Bye(reason="failed", exit_code=1)
        elif not self.job.folder.spec_path.is_file():  # the folder itself a worker may have made anew
            end = self._describe_loss()
        elif end is None:
            end = self._reconstruct_end()
        self._say(end)

    def break_off(self, error: Exception, *, leave: bool) -> None:
        """Look after it no longer, because of an error of ours.

        Args:
            error: for the job's own.
            leave: whether the worker is to end.
        """
        self.is_over = True
        with contextlib.suppress(CoGradError, OSError):
            if leave:
                self.channel.leave()
        with contextlib.suppress(OSError):
            self.channel.release()
        self.job.error = unknown_failure(error)
        self._say(Bye(reason="failed", exit_code=1, resumable=True))

    def _describe_loss(self) -> Bye:
        """Whatever the worker said of it, what happened is this."""
        self.job.is_gone = True
        self.job.error = Failure(code="gone", message="The job's folder was deleted while it ran.", remedy="Start the job anew.")
        return Bye(reason="failed", exit_code=1)

    def _reconstruct_end(self) -> Bye:
        """What a process would have said that had no time for a last word, or said it where we did not hear it."""
        job = self.job
        try:
            state = job.folder.state
        except CoGradError as error:
            job.error = Failure(code=error.code, message=error.message, remedy=error.remedy)
            return Bye(reason="failed", exit_code=1)
        resumable = bool(job.folder.checkpoints())
        code = self.channel.exit_code
        if state.status in ("finished", "cancelled", "interrupted") or (state.status == "failed" and job.error is not None):
            return Bye(reason=state.status, exit_code=code or 0, resumable=resumable and state.status != "finished")
        if state.status == "failed" and state.error and self._greeted:
            job.error = Failure(code="error", message=state.error.get("message", ""), remedy=state.error.get("remedy", ""))
            return Bye(reason="failed", exit_code=code or 1, resumable=resumable)
        if job.wish is Wish.CANCEL:
            return Bye(reason="cancelled", exit_code=code or 0, resumable=resumable)
        job.error = self._describe_death(code)
        was_ended = isinstance(self.channel, FileChannel) or (code is not None and -code in (_SIGKILL, signal.SIGTERM, signal.SIGINT))
        return Bye(reason="interrupted" if was_ended and self._greeted else "failed", exit_code=code or 1, resumable=resumable)

    def _describe_death(self, code: int | None) -> Failure:
        last = [line.strip() for line in read_tail(self.job.folder.log_path, self._log_start).splitlines() if line.strip()][-3:]
        words = f" Its last words: {' / '.join(last)[-400:]}" if last else ""
        if not self._greeted:
            return Failure(
                code="start",
                message=f"The worker could not start (exit code {code}).{words}",
                remedy="Check the environment in the preferences, and repair it there if it is damaged.",
            )
        if code is not None and -code == _SIGKILL:
            return Failure(
                code="killed",
                message="The worker was ended from outside, perhaps because there was not enough memory.",
                remedy="Close other programs or choose a lower quality, then take the job up again.",
            )
        return Failure(
            code="crash",
            message=f"The worker ended without a word{'' if code is None else f' (exit code {code})'}.{words}",
            remedy="Take the job up again; if it ends like this once more, its log says more.",
        )


def unknown_failure(error: Exception) -> Failure:
    """What a user is told of an error that nobody thought of; Blender's console has all of it."""
    text = (str(error).splitlines() or [""])[0][:300]
    return Failure(
        code=CoGradError.code,
        message=f"CoGrad3D met an error it does not know: {type(error).__name__}{': ' if text else ''}{text}.",
        remedy="Take the job up again; if that does not help, please report what Blender's console says.",
    )


def _is(line: bytes | LineError, beginning: bytes) -> TypeGuard[bytes]:
    return isinstance(line, bytes) and line.startswith(beginning)


_SIGKILL = int(getattr(signal, "SIGKILL", 9))
