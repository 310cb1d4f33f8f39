"""Finding and ending every process that a test started, however it detached itself. No bpy; Linux only.

A process is known by a variable in its environment, which children inherit, also those in a session of their own.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

MARK = "COGRAD3D_TEST_RUN"


def marked(run: str) -> dict[int, str]:
    """The living processes of a run: command line by process id. Zombies do not count."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if f"{MARK}={run}".encode() not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:  # it has just ended, or is somebody else's
            continue
        if command:
            found[int(folder.name)] = command
    return found


def wait_until_gone(run: str, seconds: float, *, but: frozenset[int] = frozenset()) -> dict[int, str]:
    """Wait until no process of the run is left, `seconds` at most; those that still are."""
    deadline = time.monotonic() + seconds
    while True:
        left = {pid: command for pid, command in marked(run).items() if pid not in but}
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def kill_all(run: str) -> None:
    """End every process of the run."""
    for _ in range(50):  # a process may start another while it is looked for
        left = marked(run)
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.1)
