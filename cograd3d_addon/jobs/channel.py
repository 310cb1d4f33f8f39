"""The two ways to talk with a worker: pipes to one that was started here, the job folder's files for one that was not. No bpy."""

from __future__ import annotations

import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from ...backend.command_file import send_command
from ...backend.errors import CoGradError, JobError
from ...backend.job import JobFolder
from ...backend.protocol import Alive, Command, Detach, encode_line
from ...backend.wire import LineError, LineReader
from .child import Child, pid_is_alive
from .disk import is_in_use, lock_holder

__all__ = ["AT_ONCE", "LEASE", "Channel", "FileChannel", "PipeChannel"]

LEASE = 8.0
"""Seconds that a worker waits for an add-on that is being reloaded, before it writes a checkpoint and leaves."""

AT_ONCE = 0.001
"""A lease that has run out as soon as it is heard of."""

_FLUSH_PATIENCE = 0.05
_LIVENESS_INTERVAL = 1.0
_RENEWAL_INTERVAL = 2.0


class Channel(ABC):
    """One running worker. No method waits for it."""

    exit_code: int | None = None
    """Of a process that ended and was ours to watch; negative: the signal that ended it."""

    @abstractmethod
    def read(self, limit: int) -> list[bytes | LineError]:
        """The lines it wrote since the last call, at most about `limit` bytes of them."""

    @property
    @abstractmethod
    def at_end(self) -> bool:
        """Whether everything it ever wrote was read, and nothing more can come."""

    @abstractmethod
    def send(self, command: Command) -> None:
        """Tell it something. Raises `CoGradError` if that is not possible."""

    @abstractmethod
    def leave(self) -> None:
        """Ask it to write a checkpoint and end at once."""

    @abstractmethod
    def terminate(self) -> bool:
        """Ask the process to end, by the system's means; False if it is not ours to end."""

    @abstractmethod
    def kill(self) -> bool:
        """End the process; False if it is not ours to end."""

    @abstractmethod
    def detach(self, lease: float) -> None:
        """Let go of it: it goes on for `lease` seconds unless somebody renews that, or, at 0, to its end."""

    @abstractmethod
    def release(self) -> None:
        """Close what is open. The process is left alone."""


class PipeChannel(Channel):
    """A worker that is a child of this process. Raises as `Child` does."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], folder: JobFolder) -> None:
        self._child = Child(command, environ, folder.log_path)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def exit_code(self) -> int | None:  # type: ignore[override]
        return self._child.exit_code

    def read(self, limit: int) -> list[bytes | LineError]:
        self._child.flush()
        return self._child.read(limit)

    @property
    def at_end(self) -> bool:
        return self._child.at_end and self._child.exit_code is not None

    def send(self, command: Command) -> None:
        if not self._child.write(encode_line(command)):
            raise JobError("The worker has not listened for a long time.", remedy="Cancel the job; it can be taken up again afterwards.")

    def leave(self) -> None:
        self._child.close_input()

    def terminate(self) -> bool:
        self._child.terminate()
        return True

    def kill(self) -> bool:
        self._child.kill()
        return True

    def detach(self, lease: float) -> None:
        self._child.write(encode_line(Detach(lease=lease)))
        deadline = time.monotonic() + _FLUSH_PATIENCE
        while self._child.has_unsent and time.monotonic() < deadline:
            time.sleep(0.005)
            self._child.flush()
        self.release()

    def release(self) -> None:
        self._child.release()


class FileChannel(Channel):
    """A worker that was started by somebody else, or by this Blender before the add-on was reloaded.

    Args:
        folder: its job folder.
        offset: where in events.jsonl to begin.
        renew: whether it lives on a lease that is ours to renew, which is done until it is let go of.
        pid: its process number on this machine, if it is ours to end; else 0.
        begins: whether it may not have taken the job's lock yet.
    """

    def __init__(self, folder: JobFolder, offset: int, *, renew: bool = False, pid: int = 0, begins: bool = False) -> None:
        self._folder = folder
        self._offset = offset
        self._pid, self._begins = pid, begins
        self._reader = LineReader()
        self._gone = False
        self._at_end = False
        self._looked_at = -_LIVENESS_INTERVAL * 100
        self._let_go = threading.Event()
        self._trouble: CoGradError | None = None
        if renew:
            threading.Thread(target=self._renew_lease, name="CoGrad3D lease", daemon=True).start()

    def _renew_lease(self) -> None:
        """On a thread of its own, since Blender may be busy for much longer than a lease: with a render, or with a large file."""
        while not self._let_go.is_set():
            try:
                send_command(self._folder.path, Alive())
            except CoGradError as error:
                self._trouble = error
            self._let_go.wait(_RENEWAL_INTERVAL)

    def read(self, limit: int) -> list[bytes | LineError]:
        now = time.monotonic()
        if not self._gone and now - self._looked_at >= _LIVENESS_INTERVAL:
            self._looked_at = now
            self._gone = not self._is_there()
        trouble, self._trouble = self._trouble, None
        if trouble is not None and not self._gone:
            raise trouble
        data = self._read_new(limit)
        if not data and self._gone:
            self._at_end = True
        return list(self._reader.feed(data)) if data else []

    def _is_there(self) -> bool:
        if is_in_use(self._folder):
            self._begins = False
            return True
        return self._begins and pid_is_alive(self._pid)

    def _read_new(self, limit: int) -> bytes:
        try:
            size = os.stat(self._folder.events_path).st_size
            if size == self._offset:
                return b""
            if size < self._offset:  # a torn last line was cut off: what follows is whole again
                self._offset, self._reader = size, LineReader()
                return b""
            with open(self._folder.events_path, "rb") as file:  # not kept open: on Windows that would keep the folder from being deleted
                file.seek(self._offset)
                data = file.read(limit)
        except OSError:
            return b""
        self._offset += len(data)
        return data

    @property
    def at_end(self) -> bool:
        return self._at_end

    def send(self, command: Command) -> None:
        send_command(self._folder.path, command)

    def leave(self) -> None:
        self._let_go.set()
        self.send(Detach(lease=AT_ONCE))

    def terminate(self) -> bool:
        return self._signal(signal.SIGTERM)

    def kill(self) -> bool:
        return self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))

    def _signal(self, number: int) -> bool:
        """Only to the process that this Blender started and that holds the job's lock: numbers are given out again."""
        if not self._pid or not is_in_use(self._folder) or lock_holder(self._folder) != self._pid:
            return False
        try:
            os.kill(self._pid, number)
        except OSError:
            return False
        return True

    def detach(self, lease: float) -> None:
        self._let_go.set()
        self.send(Detach(lease=lease))

    def release(self) -> None:
        self._let_go.set()
