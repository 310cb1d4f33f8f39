"""One process at a time: locks that the system gives up with the process that holds them, however it ends. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .errors import JobError
from .files import output_error, remove_leftovers

__all__ = ["LOCK_FILE", "FolderLock", "try_lock", "work_alone"]

LOCK_FILE = "job.lock"
"""In the folder of a job, of a batch, of a report, of a training: locked, not merely present, while a process works there. It has the
number of the last one that did."""

_LOCKED = frozenset((errno.EACCES, errno.EAGAIN, errno.EDEADLK))
_NO_LOCKS = frozenset(code for code in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, getattr(errno, "ENOTSUP", None)) if code is not None)
_LOCKED_BYTE = 1 << 30  # Windows locks bytes, and a locked byte cannot be read: lock one far behind the text

_PATIENCE = 0.3
"""Seconds a process waits for a lock before it says that another one has it."""

_PATIENCE_TO_LOOK = 0.02 if sys.platform == "win32" else 0.0
"""Before a lock counts as held by somebody who works: where locks cannot be shared, another one that only looks has it for a moment."""

_log = logging.getLogger(__name__)


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Whether the open file is now locked for this descriptor alone; False at once if another one has it, in whichever process.

    `shared` goes together with others that share it, and not with one that has it alone; on Windows it makes no difference. True also where
    the file system has no locks, with a warning in the log: nobody can have it there.

    Raises:
        OSError: it cannot be locked for another reason.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            _log.warning("this file system has no locks: do not start the same thing twice")
            return True
        if error.errno in _LOCKED:
            return False
        raise
    return True


class FolderLock:
    """The lock of one folder, for one process at a time.

    Attributes:
        path: the file that is locked.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK_FILE
        self._descriptor: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether it was taken here."""
        return self._descriptor is not None

    def is_held_elsewhere(self) -> bool:
        """Whether somebody else has it now. Raises `OutputError` if the folder is not writable."""
        if self.is_held:
            return False
        try:
            os.close(self._take(patience=_PATIENCE_TO_LOOK, shared=True))
        except JobError:
            return True
        return False

    def acquire(self) -> None:
        """Take it, and leave this process's number for the message that others get.

        Raises:
            JobError: another process has it.
            OutputError: the folder is not writable.
        """
        descriptor = self._take(patience=_PATIENCE)
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        except OSError as error:
            os.close(descriptor)
            raise output_error(error, self.path) from error
        self._descriptor = descriptor

    def release(self) -> None:
        """Give it up, if it is held."""
        if self._descriptor is not None:
            os.close(self._descriptor)  # closing unlocks
            self._descriptor = None

    def _take(self, *, patience: float, shared: bool = False) -> int:
        """A descriptor that has the lock; `patience` seconds are allowed for somebody who only looks whether it is held."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise output_error(error, self.path) from error
        deadline = time.monotonic() + patience
        try:
            while not try_lock(descriptor, shared=shared):
                if time.monotonic() >= deadline:
                    raise _in_use(self.path.parent, _read_holder(descriptor))
                time.sleep(0.02)
        except OSError as error:
            os.close(descriptor)
            raise output_error(error, self.path) from error
        except JobError:
            os.close(descriptor)
            raise
        return descriptor


@contextlib.contextmanager
def work_alone(folder: Path) -> Iterator[None]:
    """Keep other processes from working in a folder meanwhile; what one left that was killed while it wrote there is removed.

    Raises:
        JobError: another process works there.
        OutputError: the folder is missing or not writable.
    """
    lock = FolderLock(folder)
    lock.acquire()
    try:
        remove_leftovers(folder)
        yield
    finally:
        remove_leftovers(folder)  # again: a file is taken for left only after some seconds
        lock.release()


def _in_use(folder: Path, holder: str) -> JobError:
    return JobError(
        f"Another process{f' ({holder})' if holder else ''} is working on {folder}.",
        remedy="Wait until it is done, or end it first.",
    )


def _read_holder(descriptor: int) -> str:
    """The process that a lock file names; empty if it names none."""
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        text = os.read(descriptor, 32).decode("ascii", "replace").strip()
    except OSError:
        return ""
    return text if text.isdigit() else ""
