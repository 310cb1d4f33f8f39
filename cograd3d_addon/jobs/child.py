"""A process that is spoken to in lines and can never make its parent wait. No bpy."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...backend.files import output_error
from ...backend.wire import LineError, LineReader
from . import pipes

__all__ = ["Child", "pid_is_alive"]

_CHUNK = 1 << 16
_MAX_UNSENT = 1 << 20


class Child:
    """A child process with lines in both directions.

    It has a session of its own, so that Ctrl-C in the terminal that Blender was started from does not reach it, and none of this process's
    files but its pipes. What it prints to standard error is appended to a file, which, unlike a pipe, nobody has to read and which stays
    open when this process is gone.

    Args:
        command: the program and its arguments.
        environ: its environment, whole.
        log: where its standard error goes.

    Raises:
        OutputError: the log cannot be written.
        OSError: the program cannot be started.
    """

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
        try:
            stderr = open(log, "ab")  # noqa: SIM115 - closed below
        except OSError as error:
            raise output_error(error, log) from error
        with stderr:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,
                env=dict(environ),
                start_new_session=True,  # without meaning on Windows, where the flags below do the same
                creationflags=_windows_flags(),
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._input: int | None = self._process.stdin.fileno()
        self._output = self._process.stdout.fileno()
        for descriptor in (self._input, self._output):
            pipes.make_nonblocking(descriptor)
        pipes.enlarge(self._output)
        self._reader = LineReader()
        self._unsent = bytearray()
        self._at_end = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    @property
    def at_end(self) -> bool:
        """Whether it will say nothing any more: its output was read to the end, or it is gone and what it left in the pipe was read."""
        return self._at_end

    def read(self, limit: int) -> list[bytes | LineError]:
        """The lines that arrived, at most about `limit` bytes of them."""
        lines: list[bytes | LineError] = []
        gone = self.exit_code is not None  # asked before reading, so that nothing can be written after the last read
        while limit > 0 and not self._at_end:
            data = pipes.read_some(self._output, min(_CHUNK, limit))
            if data:
                limit -= len(data)
                lines += self._reader.feed(data)
                continue
            if data is None and not gone:
                break
            self._at_end = True  # nothing yet from one that is gone: a grandchild still holds the pipe open
            if (torn := self._reader.close()) is not None:
                lines.append(torn)
        return lines

    def write(self, data: bytes) -> bool:
        """Send, as far as there is room; the rest goes with the next `flush`. False: the other end has stopped reading long ago."""
        if len(self._unsent) + len(data) > _MAX_UNSENT:
            return False
        self._unsent += data
        self.flush()
        return True

    @property
    def has_unsent(self) -> bool:
        """Whether something waits for room in the pipe."""
        return bool(self._unsent)

    def flush(self) -> None:
        """Send what could not be sent yet."""
        while self._unsent and self._input is not None:
            try:
                sent = pipes.write_some(self._input, bytes(self._unsent[:_CHUNK]))
            except BrokenPipeError:
                self._unsent.clear()
                return
            if not sent:
                return
            del self._unsent[:sent]

    def close_input(self) -> None:
        """Tell it that nothing more will come. What could not be sent yet is lost."""
        if self._input is not None:
            self._input = None
            assert self._process.stdin is not None
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def terminate(self) -> None:
        """Ask it to end; on Windows, end it."""
        with contextlib.suppress(OSError):  # gone meanwhile
            self._process.terminate()

    def kill(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            self._process.kill()

    def release(self) -> None:
        """Let go of its pipes; the process itself is left alone."""
        self.close_input()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._at_end = True
        if self.exit_code is None:  # somebody has to take note of its end, or the system keeps a zombie
            threading.Thread(target=self._process.wait, name="reaper", daemon=True).start()


def _windows_flags() -> int:
    if sys.platform == "win32":
        return subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    return 0


def pid_is_alive(pid: int) -> bool:
    """Whether a process of this number runs on this machine (it may be another one than it was)."""
    if pid <= 0:
        return False
    if sys.platform == "win32":
        import _winapi

        try:
            handle = _winapi.OpenProcess(_winapi.SYNCHRONIZE, False, pid)
        except OSError:
            return False
        try:
            return _winapi.WaitForSingleObject(handle, 0) == _winapi.WAIT_TIMEOUT
        finally:
            _winapi.CloseHandle(handle)
    if hasattr(os, "waitid"):  # macOS has it from Python 3.13 on
        with contextlib.suppress(ChildProcessError):  # not a child of ours
            # One that has ended answers signals until somebody takes note of it.
            return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True
