"""A process that runs one job and speaks the wire protocol: `python -m backend worker --job DIR`.

Standard output carries events and nothing else: its descriptor is taken away from Python and from every library before anything is imported
that might print, and what they print goes to `worker.log`. Standard input carries commands; when it closes, the parent is gone, nobody
reads the events or a signal asks to terminate, the run writes a checkpoint and ends. After a `detach` only a lease that runs out and a
signal do that. The last line is always `bye`.

`execute` is that run without the wire, obeying the command file; the terminal (`progress.py`) uses it too.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from . import __version__, listening
from .control import Control, JobCancelled
from .environment import import_failure, is_ours
from .errors import EXIT_INTERRUPTED, CoGradError, OutputError, ResourceError
from .files import atomic_write_text, disk_is_full, output_error
from .job import JobFolder
from .memory import is_out_of_memory
from .protocol import (
    PROTOCOL_VERSION,
    Bye,
    Event,
    Failure,
    Hello,
    Progress,
    Regions,
    Result,
    encode_line,
)
from .wire import LineError, to_json

__all__ = ["Emit", "JobRunner", "Wire", "ending_signals", "execute", "log_to", "run_pipeline", "run_worker"]

Emit = Callable[[Event], None]
JobRunner = Callable[[JobFolder, Emit, Control], object]
"""Runs a locked job to its end, emitting its events, the result among them; raises `JobCancelled` when told to end without one."""

GRACE_SECONDS = 120.0
"""How long a run that has to go may take for its checkpoint, before the process ends without it: no orphan stays."""

SAVED_GRACE_SECONDS = 5.0
"""How long it may take where every step is in a checkpoint already: before the first one, and once the mesh is being made."""

READER_SECONDS = 5.0
"""How long the last events wait for a reader, where there may be none."""

_log = logging.getLogger(__name__)


def run_pipeline(folder: JobFolder, emit: Emit, control: Control) -> object:
    """The real job. What it needs beyond the standard library is imported here."""
    from . import pipeline, settings

    return pipeline.run_job(folder, settings.from_dict(folder.config), folder.spec, emit, control)


# --- one run


def execute(folder: JobFolder, runner: JobRunner, send: Emit, control: Control, leave: Callable[[str], None] | None = None) -> Bye:
    """Lock a job, run it, keep `state.json`, `events.jsonl` and `regions.json`, and put whatever goes wrong into words.

    Meanwhile what is appended to the job's command file is obeyed.

    Args:
        send: told the events as they happen, an error among them, one at a time; the `bye` that is returned is the caller's to send.
        leave: asks the run to end because the process has to go, and is told why; by default that is `control.interrupt`.
    """
    one_at_a_time = threading.Lock()

    def tell(event: Event) -> None:
        with one_at_a_time:
            send(event)

    def emit(event: Event) -> None:
        folder.append_event(event)
        if isinstance(event, Regions):
            atomic_write_text(folder.regions_path, to_json(event) + "\n", durable=False)
        tell(event)

    def interrupt(why: str) -> None:
        _log.info("%s: the run is interrupted", why)
        control.interrupt()

    try:
        with folder.lock(), listening.following_commands(folder, control, tell, leave or interrupt):
            folder.update_state(status="running", error=None)
            try:
                runner(folder, emit, control)
            except (JobCancelled, KeyboardInterrupt) as end:
                reason = "interrupted" if isinstance(end, KeyboardInterrupt) else control.cancel_reason or "cancelled"
                folder.update_state(status=reason)
                return Bye(reason=reason, exit_code=EXIT_INTERRUPTED, resumable=True)
            except Exception as error:
                return _record_failure(folder, as_user_error(error, folder), tell)
            folder.update_state(status="finished")
            return Bye(reason="finished")
    except CoGradError as error:  # in use by another process, or nothing can be written: the folder is not ours to change
        send(_failure(error))
        return Bye(reason="failed", exit_code=error.exit_code)


def as_user_error(error: Exception, folder: JobFolder) -> CoGradError:
    """What a user can read and do something about, for anything that a run may raise; the rest goes to the log."""
    if isinstance(error, CoGradError):
        return error
    _log.error("the run failed", exc_info=error)
    if is_out_of_memory(error):
        return ResourceError(
            "There was not enough memory for this run.",
            remedy="Close other programs, or take a lower quality, a smaller `densification.max_count` or a smaller prior.",
        )
    if isinstance(error, ImportError) and not is_ours(error):
        return import_failure(error)
    if isinstance(error, OSError) and disk_is_full(error):
        return output_error(error, Path(error.filename or folder.path))
    text = (str(error).splitlines() or [""])[0][:300]
    return CoGradError(
        f"CoGrad3D met an error it does not know: {type(error).__name__}{': ' if text else ''}{text}.",
        remedy=f"Please report it together with {folder.log_path}.",
    )


def _failure(error: CoGradError) -> Failure:
    return Failure(code=error.code, message=error.message, remedy=error.remedy)


def _record_failure(folder: JobFolder, error: CoGradError, send: Emit) -> Bye:
    failure = _failure(error)
    with _logged_output_errors():
        folder.append_event(failure)
    with _logged_output_errors():
        folder.update_state(status="failed", error={"code": error.code, "message": error.message, "remedy": error.remedy})
    send(failure)
    return Bye(reason="failed", exit_code=error.exit_code, resumable=bool(folder.checkpoints()))


@contextlib.contextmanager
def _logged_output_errors() -> Iterator[None]:
    """For what is written about an error: that it cannot be written (the disk is full) must not replace the error."""
    try:
        yield
    except OutputError as error:
        _log.error("%s", error)


class _LogFile(logging.FileHandler):
    """A log that may lack records: on a full disk, logging's own complaints would bury the sentence that says so."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


def log_to(folder: JobFolder) -> None:
    """Send this process's log records to the job's `worker.log`. Raises `OutputError`."""
    try:
        handler = _LogFile(folder.log_path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise output_error(error, folder.log_path) from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)


# --- the wire


class Wire:
    """Writes events as whole lines, from a thread of its own, so that a parent that does not read for a while never stops the run.

    When too much waits to be read, the oldest progress and region events are dropped, since newer ones say the same better; failing those,
    any but the first and the last of a run. All of them stand in `events.jsonl`.

    Args:
        descriptor: an open file descriptor, the wire's own from now on.
        on_broken: called once if nobody reads at the other end any more.
    """

    BACKLOG = 256

    def __init__(self, descriptor: int, on_broken: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._on_broken = on_broken
        self._waiting: deque[tuple[Event, bytes]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._broken = False
        self._thread = threading.Thread(target=self._write_all, name="wire", daemon=True)
        self._thread.start()

    def send(self, event: Event) -> None:
        """Queue an event; after `close` and on a broken wire it is dropped."""
        try:
            line = encode_line(event)
        except LineError as error:
            _log.error("%s", error)
            return
        with self._changed:
            if self._closing or self._broken:
                return
            if len(self._waiting) >= self.BACKLOG:
                self._drop_one()
            self._waiting.append((event, line))
            self._changed.notify_all()

    def _drop_one(self) -> None:
        stale = [index for index, (event, _) in enumerate(self._waiting) if isinstance(event, (Progress, Regions))]
        others = [index for index, (event, _) in enumerate(self._waiting) if not isinstance(event, (Hello, Result, Failure))]
        for index in (stale or others)[:1]:
            del self._waiting[index]

    def close(self, timeout: float | None = None) -> bool:
        """Wait, at most `timeout` seconds, until everything was read or nobody reads any more; whether that is so."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                _, line = self._waiting.popleft()
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
            except OSError:
                with self._changed:
                    self._broken = True
                    self._waiting.clear()
                self._on_broken()
                return


def claim_stdout() -> int:
    """Take standard output away: returns a descriptor of what it was; what is printed from now on goes to standard error."""
    _open_standard_descriptors()
    if sys.stdout is not None:
        sys.stdout.flush()
    descriptor = os.dup(1)
    os.dup2(2, 1)
    return descriptor


def claim_stdin() -> int:
    """Take standard input away, so that no library and no child process reads commands."""
    _open_standard_descriptors()
    descriptor = os.dup(0)
    _point_at(0, Path(os.devnull), os.O_RDONLY)
    return descriptor


def _open_standard_descriptors() -> None:
    """Point those of 0, 1 and 2 that are closed at nothing: the next file to be opened would get the number, and be taken for them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _point_at(descriptor: int, path: Path, flags: int = os.O_WRONLY | os.O_CREAT | os.O_APPEND) -> None:
    opened = os.open(path, flags, 0o644)
    os.dup2(opened, descriptor)
    os.close(opened)


def _print_to(folder: JobFolder) -> None:
    """Point standard output and standard error, down to the descriptors that native libraries use, at the log."""
    log_to(folder)
    for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
        _point_at(descriptor, folder.log_path)
        if stream is not None:
            stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    faulthandler.enable(2)  # by its number: where it was closed at the start, Python knows no stream of it


# --- the process


def run_worker(job: str | os.PathLike[str], runner: JobRunner = run_pipeline) -> int:
    """Run the job in a folder, as the process's whole purpose; returns its exit code.

    Exit codes: 0 finished; 130 cancelled or interrupted, resumable; else that of the error class (`backend/errors.py`).
    """
    parent = os.getppid()
    control, over = Control(), threading.Event()

    def leave(why: str) -> None:
        _log.info("%s: writing a checkpoint and leaving", why)
        control.interrupt()
        _start(_give_up_in_time, control, over, wire, job)

    def leave_unless_detached(why: str) -> None:
        if control.wait_until_detached(listening.SETTLE_SECONDS):
            _log.info("%s: the run is detached and goes on", why)
        else:
            leave(why)

    wire = Wire(claim_stdout(), lambda: leave_unless_detached("nobody reads the events any more"))
    commands = claim_stdin()
    wire.send(Hello(protocol=PROTOCOL_VERSION, backend=__version__, pid=os.getpid(), job=str(Path(job).absolute())))
    try:
        folder = JobFolder.open(job)
        _print_to(folder)
    except CoGradError as error:
        wire.send(_failure(error))
        bye = Bye(reason="failed", exit_code=error.exit_code)
    else:
        _catch_signals(control, leave)
        _start(listening.read_commands, commands, control, wire.send, leave_unless_detached)
        if os.name != "nt":  # Windows keeps telling the number of a parent that is gone; there, the closed standard input has to do
            _start(listening.watch_parent, parent, leave_unless_detached)
        bye = execute(folder, runner, wire.send, control, leave)
    over.set()
    wire.send(bye)
    while not wire.close(timeout=READER_SECONDS) and not (control.should_cancel or control.detached):
        pass
    return bye.exit_code


def _start(target: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=target, args=arguments, name=target.__name__, daemon=True).start()


def _give_up_in_time(control: Control, over: threading.Event, wire: Wire, job: str | os.PathLike[str]) -> None:
    """End a process whose run does not end although it was interrupted: stuck in a download, or in a library."""
    asked = time.monotonic()
    saved_at: float | None = None
    while not over.wait(0.1):
        now = time.monotonic()
        saved_at = None if control.has_unsaved else saved_at or now
        if now - asked >= GRACE_SECONDS or (saved_at is not None and now - saved_at >= SAVED_GRACE_SECONDS):
            _give_up(control.cancel_reason, wire, job)


def _give_up(reason: str, wire: Wire, job: str | os.PathLike[str]) -> None:
    _log.error("the run does not end by itself: leaving without it")
    with contextlib.suppress(CoGradError):  # then whoever finds the job running without a process knows what to make of it
        folder = JobFolder.open(job)
        if folder.state.status == "running":
            folder.update_state(status=reason)
    wire.send(Bye(reason=reason, exit_code=EXIT_INTERRUPTED, resumable=True))
    wire.close(timeout=1.0)
    os._exit(EXIT_INTERRUPTED)


def _catch_signals(control: Control, leave: Callable[[str], None]) -> None:
    """The first signal to end asks the run to; the second ends the process at once. A detached run survives the closing of its terminal."""

    def handle(number: int, frame: object) -> None:
        if control.detached and number == getattr(signal, "SIGHUP", None):
            return
        signal.signal(number, signal.SIG_DFL)
        leave(f"signal {signal.Signals(number).name}")

    for number in ending_signals():
        signal.signal(number, handle)


def ending_signals() -> tuple[int, ...]:
    """The signals that ask a run to end, of those that this system has; a hang-up only where `nohup` does not want it ignored."""
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
    hang_up = getattr(signal, "SIGHUP", None)
    return tuple(number for number in numbers if number != hang_up or signal.getsignal(number) is not signal.SIG_IGN)
