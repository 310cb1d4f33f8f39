"""Commands to a run from those who did not start it: `commands.jsonl` in its job folder.

Whoever starts a worker talks to it through its standard input. Everybody else (a Blender that was closed and opened again, another program,
a script) appends a line to this file, and the process that runs the job obeys what is appended while it runs::

    send_command(job.path, Pause())

Standard library only.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from .files import output_error
from .protocol import Command, encode_line
from .wire import LineError, LineReader

__all__ = ["COMMAND_FILE", "CommandFollower", "send_command"]

COMMAND_FILE = "commands.jsonl"

_CHUNK = 1 << 16
_BINARY = getattr(os, "O_BINARY", 0)  # Windows would write a line feed as two bytes

_log = logging.getLogger(__name__)


def send_command(job_path: str | os.PathLike[str], command: Command) -> None:
    """Tell whichever process runs the job of this folder; a command that nobody is there to read is never obeyed.

    Several processes may send at once: a line is appended in one write, which POSIX systems keep whole. (Windows does not promise that:
    of two commands sent in the same instant one may get lost there.)

    Raises:
        LineError: the command is too long for a line.
        OutputError: the folder is gone, not writable, or on a full disk.
    """
    path, line = Path(job_path) / COMMAND_FILE, encode_line(command)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _BINARY, 0o644)
        try:
            if _is_torn(descriptor):
                line = b"\n" + line
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        finally:
            os.close(descriptor)
    except OSError as error:
        raise output_error(error, path) from error


def _is_torn(descriptor: int) -> bool:
    """Whether the file ends in the middle of a line, as a writer leaves it whose disk was full."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    if end == 0:
        return False
    os.lseek(descriptor, end - 1, os.SEEK_SET)
    return os.read(descriptor, 1) != b"\n"


class CommandFollower:
    """Reads the lines that are appended to a job's command file from now on.

    The file need not exist yet. One that is removed, replaced or cut short is read from its new beginning; what is no regular file is
    passed over. For one thread.
    """

    def __init__(self, job_path: str | os.PathLike[str]) -> None:
        self._path = Path(job_path) / COMMAND_FILE
        self._descriptor: int | None = None
        self._offset = 0
        self._lines = LineReader()
        self._complaint = ""
        try:
            self._open(at_end=True)
        except OSError as error:
            self._give_up(error)

    def poll(self) -> Iterator[bytes | LineError]:
        """The lines since the last call, each without its line feed, or a `LineError` in place of one that is too long."""
        try:
            yield from self._read()
            if not self._is_current():  # its last lines were just read
                self.close()
                self._open()
                yield from self._read()
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Let go of the file; `poll` opens the next one."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None

    def _open(self, *, at_end: bool = False) -> None:
        self._offset, self._lines = 0, LineReader()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if not stat.S_ISREG(os.stat(self._path).st_mode):  # to open a named pipe would wait for its writer
                self._complain("it is no regular file")
                return
            self._descriptor = os.open(self._path, os.O_RDONLY | _BINARY)
            self._complaint = ""
            if at_end:
                self._offset = os.fstat(self._descriptor).st_size

    def _is_current(self) -> bool:
        """Whether the open file is the one that has the name now. It is kept open, so that no other file can get its number meanwhile."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self._path))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _read(self) -> Iterator[bytes | LineError]:
        if self._descriptor is None:
            return
        end = os.fstat(self._descriptor).st_size
        if end < self._offset:
            self._offset, self._lines = 0, LineReader()
        while self._offset < end:
            os.lseek(self._descriptor, self._offset, os.SEEK_SET)
            data = os.read(self._descriptor, min(_CHUNK, end - self._offset))
            if not data:  # cut short meanwhile
                return
            self._offset += len(data)
            yield from self._lines.feed(data)

    def _give_up(self, error: OSError) -> None:
        self.close()
        self._complain(error.strerror or str(error))

    def _complain(self, why: str) -> None:
        """Log a reason once, not at every poll."""
        if why != self._complaint:
            self._complaint = why
            _log.warning("%s cannot be read: %s", self._path, why)
