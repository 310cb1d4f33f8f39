"""How a running job hears: standard input, the command file, and whether anybody is still there.

Everything here runs on daemon threads and writes to the job's `Control`. Standard library only.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator

from .command_file import CommandFollower
from .control import Control
from .job import JobFolder
from .protocol import Alive, Notice, decode_command
from .wire import LineError, read_lines

__all__ = ["following_commands", "obey", "read_commands", "watch_parent"]

Tell = Callable[[Notice], None]
Leave = Callable[[str], None]
"""Asks the run to write a checkpoint and end; told why."""

POLL_SECONDS = 0.4
"""Between two looks into the command file."""

SETTLE_SECONDS = 1.0
"""How long a `detach` may still be on its way when its sender is gone already: more than `POLL_SECONDS`."""

_PARENT_CHECK_SECONDS = 1.0

_log = logging.getLogger(__name__)


def obey(line: bytes | LineError, control: Control, tell: Tell) -> None:
    """Do what a line says; one that makes no sense is logged and told, and nothing else happens."""
    try:
        if isinstance(line, LineError):
            raise line
        command = decode_command(line)
        if command is not None:
            # A lease is renewed every other second: the log is for what people asked for.
            _log.log(logging.DEBUG if isinstance(command, Alive) else logging.INFO, "command: %s", command)
            control.apply(command)
    except LineError as error:
        _log.warning("%s", error)
        tell(Notice(code=error.code, message=error.message, remedy="The line was ignored; send one JSON object a line."))
    except ValueError as error:
        _log.warning("a command was ignored: %s", error)
        tell(Notice(code="command", message=f"A command was ignored: {error}.", remedy="Send it again with a value in range."))


@contextlib.contextmanager
def following_commands(folder: JobFolder, control: Control, tell: Tell, leave: Leave) -> Iterator[None]:
    """While the block runs, obey what is appended to the job's command file, and leave when the lease of a `detach` has run out.

    A detached run that was told to end is told to leave as well, since nobody is there who would lose patience with it.
    """
    follower, over = CommandFollower(folder.path), threading.Event()

    def follow() -> None:
        while not over.wait(POLL_SECONDS):
            for line in follower.poll():
                obey(line, control, tell)
            if control.lease_has_run_out:  # after a look into the file: this thread may have been held up longer than its senders
                leave("nobody has renewed the lease")
                break
            if control.detached and control.should_cancel:
                leave("told to end while detached")
                break
        follower.close()

    thread = threading.Thread(target=follow, name="following commands", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def read_commands(descriptor: int, control: Control, tell: Tell, leave: Leave) -> None:
    """Obey the lines of standard input until it ends, then leave."""
    with contextlib.suppress(OSError):  # a broken pipe or terminal is an end like any other
        for line in read_lines(lambda count: os.read(descriptor, count)):
            obey(line, control, tell)
    leave("standard input was closed")


def watch_parent(parent: int, leave: Leave) -> None:
    """Notice that the parent died although somebody else still holds our standard input open (a process that it started)."""
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_SECONDS)
    leave("the parent process is gone")
