"""For a process that a program follows: it ends, with all that it started, when that program is gone. Standard library only."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

__all__ = ["OPTION", "end_with_standard_input"]

OPTION = "--attached"
"""What asks for it on a command line; never without, for in a terminal standard input may be closed from the start."""


def end_with_standard_input() -> None:
    """From now on: end when standard input is closed, which the system does for a program that crashes, too."""
    descriptor = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # no library and no child is to read it, or to keep it open
    os.close(nothing)
    threading.Thread(target=_watch, args=(descriptor,), name="attached", daemon=True).start()


def _watch(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # a broken pipe is an end like any other
        while os.read(descriptor, 1 << 12):
            pass
    _end()


def _end() -> None:
    """End this process and what it started; of the group only if it was made for this process, for a shell's holds other programs too."""
    if sys.platform == "win32":
        tree = ["taskkill", "/T", "/F", "/PID", str(os.getpid())]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(tree, capture_output=True, timeout=10, creationflags=subprocess.CREATE_NO_WINDOW, check=False)
    elif os.getsid(0) == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)
