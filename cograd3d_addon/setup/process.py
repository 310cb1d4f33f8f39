"""A process that works on the environment: its lines, its end, and how to end all that it started. No bpy."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ...backend.environment import child_environ
from ...backend.files import output_error
from ..jobs.child import Child

_MOST_AT_ONCE = 1 << 18
_TAIL = 4096
_DEATH_TAKES = 2.0  # seconds at most, even of a process that hangs in a driver


class Process:
    """A `Child` that is only listened to. Its standard input stays open for as long as this program is there, and says nothing.

    Args:
        command: the program and its arguments.
        log: where its standard error goes; begun anew.

    Raises:
        OutputError: the log cannot be written.
        OSError: the program cannot be started.
    """

    def __init__(self, command: Sequence[str], log: Path) -> None:
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.unlink(missing_ok=True)
        except OSError as error:
            raise output_error(error, log) from error
        self._log = log
        self._child = Child(command, child_environ(), log)

    def read_lines(self) -> list[str]:
        """What it printed since the last call; never waits."""
        return [line.decode("utf-8", "replace") for line in self._child.read(_MOST_AT_ONCE) if isinstance(line, bytes)]

    @property
    def exit_code(self) -> int | None:
        """None while it runs or there is something left to read; negative: the signal that ended it."""
        return self._child.exit_code if self._child.at_end else None

    def kill(self) -> None:
        """End it and everything that it started (pip, compilers), and wait for that, which is a matter of milliseconds."""
        if sys.platform == "win32":
            tree = ["taskkill", "/T", "/F", "/PID", str(self._child.pid)]
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                subprocess.run(tree, capture_output=True, timeout=10, creationflags=subprocess.CREATE_NO_WINDOW, check=False)
        else:
            with contextlib.suppress(OSError):  # all gone meanwhile
                os.killpg(self._child.pid, signal.SIGKILL)  # it leads a session, and so a group, of its own
        self._child.kill()
        deadline = time.monotonic() + _DEATH_TAKES
        while self._child.exit_code is None and time.monotonic() < deadline:
            time.sleep(0.005)

    def last_words(self) -> list[str]:
        """The last lines of its standard error."""
        try:
            with self._log.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
                return file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return []

    def release(self) -> None:
        """Let go of its pipe."""
        self._child.release()
