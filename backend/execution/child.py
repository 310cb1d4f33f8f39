"""One process of an executor: started apart from the terminal, asked to stop, killed with all that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

from ..console import printable
from ..environment import child_environ

__all__ = ["LOST", "Child", "last_words"]

LOST = -9
"""The exit code of a process that is gone with the computer it ran on: as if it had been killed."""

_TAIL_BYTES = 1 << 14


class Child:
    """A process in a session of its own, so that a Ctrl-C in the terminal reaches it from its parent alone, and once.

    Its standard input is a pipe that nothing is written to: it closes with this process, which `attended` takes as the sign to go.
    """

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
        self.started = time.monotonic()
        if hasattr(signal, "pthread_sigmask"):  # Ray's processes block it, which a child would inherit
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`; a pipe would have to be read all the time
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            env=child_environ() | dict(environ),
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self.pid = self._process.pid

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self.started

    def poll(self) -> int | None:
        """Its exit code, None while it runs. What it started and left behind is killed first."""
        if self._process.returncode is None and self._has_ended():
            self._kill_group()
            return self._process.wait()
        return self._process.poll()

    def _has_ended(self) -> bool:
        """Whether it ended and was not waited for, so that its number still is its own and its group's."""
        if not hasattr(os, "waitid"):  # Windows
            return False
        with contextlib.suppress(ChildProcessError):
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        return False

    def interrupt(self) -> None:
        """Ask it to stop where it can go on later."""
        if self.poll() is None:
            with contextlib.suppress(OSError):
                if sys.platform == "win32":
                    self._process.send_signal(signal.CTRL_BREAK_EVENT)
                else:
                    self._process.send_signal(signal.SIGINT)

    def kill(self) -> int:
        """End it and what it started at once; its exit code."""
        if self.poll() is None:
            self._kill_group()
            self._process.kill()
        return self._process.wait()

    def _kill_group(self) -> None:
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS refuses to signal a group of zombies
                os.killpg(self.pid, signal.SIGKILL)

    def stop(self, seconds: float) -> int:
        """Ask it to stop, wait so long, then end it; its exit code."""
        deadline = time.monotonic() + seconds
        self.interrupt()
        while (code := self.poll()) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.kill() if code is None else code

    def message(self, code: int) -> str:
        """What killed it, where that is how it ended; else the last meaningful line of its standard error."""
        if code < 0:
            return f"killed by signal {-code}"
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - _TAIL_BYTES))
        return last_words(self._errors.read().decode("utf-8", "replace"))

    def close(self) -> None:
        """Give up its pipes; once it has ended."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._errors.close()


def last_words(text: str) -> str:
    """The line that says what went wrong: the last that begins with `error:`, else the last that is not indented, as remedies are."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    errors = [line.partition(":")[2] for line in lines if line.startswith("error:")]
    flush = [line for line in lines if not line[0].isspace()]
    return printable((errors or flush or lines or [""])[-1].strip(), 500)
