"""Files of JSON objects, one a line, that only grow: the `.jsonl` of a job folder.

Whatever is killed at whatever moment, they still read: a last line that was torn is ignored by readers and cut off by the next process that
appends.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from .files import output_error
from .wire import to_json

__all__ = ["LineAppender", "read_lines"]

_log = logging.getLogger(__name__)


class LineAppender:
    """Appends whole lines to a file; what a killed process left of its last line is cut off first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._guard = threading.Lock()
        try:
            self._file: BinaryIO = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by close()
            whole = _whole_length(path)
            if whole < os.fstat(self._file.fileno()).st_size:
                _log.warning("cut a torn last line off %s", path)
                os.truncate(path, whole)
        except OSError as error:
            raise output_error(error, path) from error

    def append(self, value: Any) -> None:
        """Append a value as one line (see `to_json`). Raises `OutputError`."""
        self.append_line(to_json(value).encode("ascii"))

    def append_line(self, line: bytes) -> None:
        """Append a line, given without its end: all of it or, when the disk is full, nothing. Raises `OutputError`."""
        line += b"\n"
        with self._guard:
            end = os.fstat(self._file.fileno()).st_size
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[self._file.write(rest) :]
            except OSError as error:
                with contextlib.suppress(OSError):
                    os.truncate(self.path, end)
                raise output_error(error, self.path) from error

    def sync(self) -> None:
        """Return when the lines are on the disk. Raises `OutputError`."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise output_error(error, self.path) from error

    def close(self) -> None:
        self._file.close()


def _whole_length(path: Path) -> int:
    """Bytes of a file of lines up to the end of its last whole line that is JSON (a power cut may leave zeros where the line should be)."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        tail, start = b"", end
        while start > 0:
            step = min(1 << 16, start)
            start -= step
            file.seek(start)
            tail = file.read(step) + tail
            while (feed := tail.rfind(b"\n")) >= 0:
                before = tail.rfind(b"\n", 0, feed)
                if before < 0 and start > 0:
                    break  # the line begins in an earlier piece
                if _is_object(tail[before + 1 : feed]):
                    return start + feed + 1
                tail = tail[: before + 1]
        return 0


def _is_object(line: bytes) -> bool:
    return _parse_object(line) is not None


def _parse_object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(offset, object) of every whole line; a torn last line and damaged ones are passed over."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        return
    with file:
        offset = 0
        for line in file:
            value = _parse_object(line) if line.endswith(b"\n") else None
            if value is not None:
                yield offset, value
            else:
                _log.warning("passed over a damaged line of %s at byte %d", path, offset)
            offset += len(line)


def trace_visits(line: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The regions of an iteration, each with all the fields of a line of `trace.jsonl`: one has its first region's and, under `also`, what
    differs in the others."""
    first = {name: value for name, value in line.items() if name != "also"}
    return [first, *({**first, **other} for other in line.get("also", ()))]
