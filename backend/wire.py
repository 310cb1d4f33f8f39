"""JSON objects one a line: how the protocol's messages are framed, and dataclasses made of them.

Lines are plain ASCII, end in a line feed and are at most `MAX_LINE_BYTES` long. JSON has no NaN and no infinities: on the wire such a
number is `null`, and a field of type `float` reads `null` as NaN.

Standard library only: the add-on, the worker and the command line all import this module.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from .errors import ProtocolError

__all__ = ["MAX_LINE_BYTES", "LineError", "LineReader", "excerpt", "from_fields", "plain", "read_lines", "tell_ignored", "to_json"]

MAX_LINE_BYTES = 1 << 20
"""Longest line either end sends or accepts, line feed included."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class LineError(ProtocolError):
    """A line that is no message: too long, torn, not JSON, or with a field of the wrong type. The stream goes on with the next line."""

    code = "line"


# --- writing


def plain(value: Any) -> Any:
    """What `json` cannot write itself: arrays and tensors become lists (numpy and torch call it `tolist`), dataclasses objects, sets and
    paths text.
    """
    if hasattr(value, "tolist"):
        return value.tolist()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "__fspath__"):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in JSON")


def _finite(value: Any) -> Any:
    """`value` with every NaN and infinity replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return _finite(plain(value))


def to_json(value: Any) -> str:
    """One line of valid ASCII JSON; NaN and infinities become null, arrays and tensors lists."""
    try:
        return json.dumps(value, allow_nan=False, default=plain)
    except ValueError:  # a NaN somewhere: rare, so the slow way only then
        return json.dumps(_finite(value), allow_nan=False)


# --- typed fields from plain JSON


@functools.cache
def _field_types(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def from_fields(cls: type[_T], values: Mapping[str, Any], what: str) -> _T:
    """A dataclass from a JSON object: unknown fields are logged and ignored, missing ones take their default. Raises `LineError`."""
    hints = _field_types(typing.cast(Any, cls))
    unknown = values.keys() - hints.keys()
    if unknown:
        tell_ignored(f"unknown fields of a {what}: {', '.join(sorted(unknown))[:200]!a}")
    try:
        return cls(**{name: _typed(hints[name], value) for name, value in values.items() if name in hints})
    except (TypeError, ValueError, OverflowError) as error:  # a missing field is a TypeError of the constructor
        raise LineError(f"A {what} message has a missing or wrong field: {error}") from error


def _typed(hint: Any, value: Any) -> Any:
    """`value`, of one of the JSON types, as the annotation `hint` wants it. Raises `TypeError`."""
    origin = typing.get_origin(hint)
    if origin is types.UnionType:
        if value is None and type(None) in typing.get_args(hint):
            return None
        return _typed(next(option for option in typing.get_args(hint) if option is not type(None)), value)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise TypeError(f"a list was expected, not {excerpt(repr(value))}")
        item_hint = typing.get_args(hint)[0]
        if set(map(type, value)) <= _right_already(item_hint):  # a message has thousands of numbers, and is read while Blender waits
            return tuple(value)
        return tuple(_typed(item_hint, item) for item in value)
    if hint is float:
        if value is None:
            return math.nan
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    elif hint in (str, int, bool):
        if type(value) is hint:
            return value
    elif isinstance(value, dict):  # a mapping's own types are its owner's to check
        return value
    raise TypeError(f"{getattr(hint, '__name__', hint)} was expected, not {excerpt(repr(value))}")


@functools.cache
def _right_already(hint: Any) -> frozenset[type]:
    """The types whose values `_typed` returns as they are."""
    options = typing.get_args(hint) if typing.get_origin(hint) is types.UnionType else (hint,)
    return frozenset(options) & {float, str, int, bool, type(None)}


@functools.lru_cache(maxsize=256)
def tell_ignored(what: str) -> None:
    """Log what is ignored, once: it may come with every line."""
    _log.info("ignored %s", what)


def excerpt(line: bytes | str, length: int = 60) -> str:
    """The beginning of what was read, printable, for an error message."""
    text = line if isinstance(line, str) else line[: 4 * length].decode("utf-8", "replace")
    return ascii(text[:length]) + ("..." if len(text) > length else "")


# --- reading


class LineReader:
    """Cuts a stream of bytes into lines, holding at most `limit` bytes of an unfinished one.

    Feed it whatever arrives, in pieces of any size: a line comes out as bytes without its line feed, a line longer than `limit` as one
    `LineError` in its place, its bytes skipped as they come. Blank lines are dropped.
    """

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self.limit = limit
        self._pending = bytearray()
        self._skipped = 0  # bytes of an oversized line that were dropped so far; 0: not inside one

    def feed(self, data: bytes) -> Iterator[bytes | LineError]:
        """The lines that `data` completes."""
        *ends, rest = data.split(b"\n")
        for end in ends:
            line = self._finish(end)
            if isinstance(line, LineError) or line.strip():
                yield line
        self._append(rest)

    def close(self) -> LineError | None:
        """To be called at the end of the stream: an error if it ends in the middle of a line, which is then lost."""
        torn = self._skipped or len(self._pending)
        self._pending.clear()
        self._skipped = 0
        return LineError(f"The stream ended in the middle of a line, {torn:,} bytes into it.") if torn else None

    def _append(self, data: bytes) -> None:
        if self._skipped:
            self._skipped += len(data)
        elif len(self._pending) + len(data) >= self.limit:  # with its line feed it would be too long
            self._skipped = len(self._pending) + len(data)
            self._pending.clear()
        else:
            self._pending += data

    def _finish(self, data: bytes) -> bytes | LineError:
        self._append(data)
        skipped, line = self._skipped, bytes(self._pending)
        self._skipped = 0
        self._pending.clear()
        if skipped:
            return LineError(f"A line of {skipped:,} bytes was skipped: it is longer than the {self.limit:,} that a line may have.")
        return line


def read_lines(read: Callable[[int], bytes], limit: int = MAX_LINE_BYTES, chunk: int = 1 << 16) -> Iterator[bytes | LineError]:
    """Lines of a blocking source until its end. `read(n)` returns at most n bytes as soon as there are any, none at the end (`os.read`,
    `read1`).
    """
    reader = LineReader(limit)
    while data := read(chunk):
        yield from reader.feed(data)
    if (torn := reader.close()) is not None:
        yield torn
