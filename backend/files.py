"""Files that are either whole or not there.

Everything the backend leaves on disk goes through this module: it is written under a temporary name in the same folder, flushed to the disk
and moved into place, so that a process killed at any moment leaves the previous file or the new one, never half of one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import OutputError

__all__ = [
    "LEFT_BESIDE_SECONDS",
    "absolute",
    "atomic_path",
    "atomic_write_bytes",
    "atomic_write_json",
    "atomic_write_text",
    "disk_is_full",
    "is_temporary",
    "make_folder",
    "output_error",
    "remove_leftovers",
    "remove_quietly",
]

_TEMPORARY_PREFIX = ".writing-"
_TEMPORARY_NAME = re.compile(re.escape(_TEMPORARY_PREFIX) + r"[0-9a-f]+(\.[^.]+)?")  # what a user calls .writing-drafts is none

_LEFT_SECONDS = 10.0
"""How long a temporary file has not been written to before it is taken for left: several processes may write to one folder."""

LEFT_BESIDE_SECONDS = 60.0
"""The same where no lock says that nobody else is at work: a slow disk may take its time to flush what another process has written."""

_READERS_LOCK = os.name == "nt"
"""Whether a file cannot be replaced while somebody reads it: Blender a preview, a scanner whatever is new."""

_READERS_SECONDS = 2.0
"""How long such a reader is waited for."""

_FULL = frozenset(code for code in (errno.ENOSPC, getattr(errno, "EDQUOT", None)) if code is not None)
_FORBIDDEN = frozenset((errno.EACCES, errno.EPERM, errno.EROFS))
_OCCUPIED = frozenset((errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST))
_CANNOT_SYNC = frozenset((errno.EINVAL, errno.ENOTSUP, errno.EBADF))


def absolute(path: str | os.PathLike[str]) -> Path:
    """A path from the folder that the process is in, `~` being the user's home; a `~` that is nobody's stays a name."""
    return Path(os.path.abspath(os.path.expanduser(path)))


def disk_is_full(error: OSError) -> bool:
    """Whether the cause is a full disk or a used-up quota."""
    return error.errno in _FULL


def output_error(error: OSError, path: Path) -> OutputError:
    """The `OutputError` that tells an artist why `path` could not be written."""
    if disk_is_full(error):
        return OutputError(
            f"The disk is full: {path} could not be written.", remedy="Free some space on that disk, or choose a folder on another one."
        )
    if error.errno in _FORBIDDEN:
        return OutputError(
            f"{path} could not be written: permission denied.", remedy="Choose a folder you may write to, or change its permissions."
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR) and not path.parent.is_dir():
        return OutputError(f"{path} could not be written: {path.parent} is no folder.", remedy="Create that folder, or choose another one.")
    if error.errno in _OCCUPIED:
        return OutputError(
            f"{path} could not be written: something else already has that name.", remedy="Choose another name, or move what is there away."
        )
    return OutputError(
        f"{path} could not be written: {error.strerror or error}.", remedy="Choose another folder, or check that disk for errors."
    )


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, where it is missing. Raises `OutputError`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(error, path) from error


def is_temporary(path: Path) -> bool:
    """Whether `path` is something `atomic_path` was still writing (left behind by a killed process)."""
    return _TEMPORARY_NAME.fullmatch(path.name) is not None


def remove_quietly(path: Path) -> None:
    """Remove a file or a folder with all it holds; what cannot be removed stays."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def remove_leftovers(folder: Path, left_seconds: float = _LEFT_SECONDS) -> None:
    """Remove what killed processes were writing directly inside a folder and left so long ago; what cannot be removed stays."""
    with contextlib.suppress(OSError):
        for entry in list(folder.iterdir()):
            if is_temporary(entry) and time.time() - entry.lstat().st_mtime > left_seconds:
                remove_quietly(entry)


def _sync_directory(directory: Path) -> None:
    if os.name == "nt":  # Windows cannot open folders, and needs no such call
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:  # some network file systems cannot flush a folder
            raise
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    if path.is_dir():
        for entry in path.iterdir():
            _sync(entry)
        _sync_directory(path)
        return
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move(source: Path, destination: Path) -> None:
    """Move a file over a file or a folder over a folder."""
    if not (source.is_dir() and destination.is_dir()):
        _replace(source, destination)
        return
    aside = destination.with_name(f"{_TEMPORARY_PREFIX}{secrets.token_hex(6)}")  # no system call replaces a folder that holds something
    _replace(destination, aside)
    _replace(source, destination)
    remove_quietly(aside)


def _replace(source: Path, destination: Path) -> None:
    """`os.replace`, tried again for a moment where somebody who reads the file keeps it from being replaced."""
    deadline = time.monotonic() + _READERS_SECONDS
    while True:
        try:
            os.replace(source, destination)
            return
        except PermissionError:
            if not _READERS_LOCK or time.monotonic() >= deadline:
                raise
        time.sleep(0.02)


def _is_about(error: OSError, destination: Path, temporary: Path) -> bool:
    """Whether an error met while writing is about the file that was written, and not about another one that was read meanwhile."""
    if error.filename is None:  # errors of an open descriptor (a full disk) carry no name
        return True
    if not isinstance(error.filename, (str, bytes, os.PathLike)):
        return False
    path = Path(os.fsdecode(error.filename))
    return path in (destination, destination.parent, temporary) or temporary in path.parents


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str], *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path next to `path`; on success move it into place, on any exception remove it.

    The block creates a file there, which replaces a file, or a folder, which replaces a folder. The temporary name keeps the suffix of
    `path`, by which many writers choose their format. A symbolic link is followed: the file it points to is replaced, the link stays.

    Args:
        path: where the file is to be.
        durable: flush it to the disk before it is moved into place, so that it also survives a power cut. Off for what is rewritten many
            times a
            minute and can be had again (previews); it is whole after `kill -9` either way.

    Raises:
        OutputError: nothing could be written there (full disk, no permission, no such folder); `path` is as it was before.
    """
    destination = Path(os.path.realpath(path))
    temporary = destination.with_name(f"{_TEMPORARY_PREFIX}{secrets.token_hex(6)}{destination.suffix}")
    try:
        yield temporary
        if durable:
            _sync(temporary)
        _move(temporary, destination)
        if durable:
            _sync_directory(destination.parent)
    except OSError as error:
        remove_quietly(temporary)
        if _is_about(error, destination, temporary):
            raise output_error(error, destination) from error
        raise
    except BaseException:
        remove_quietly(temporary)
        raise


def atomic_write_bytes(path: str | os.PathLike[str], data: bytes, *, durable: bool = True) -> None:
    """Write `data` to `path` so that a reader sees all of it or the previous file. Raises `OutputError`."""
    with atomic_path(path, durable=durable) as temporary:
        temporary.write_bytes(data)


def atomic_write_text(path: str | os.PathLike[str], text: str, *, durable: bool = True) -> None:
    """Write `text` as UTF-8, its line ends as given. Raises `OutputError`."""
    atomic_write_bytes(path, text.encode("utf-8"), durable=durable)


def atomic_write_json(path: str | os.PathLike[str], value: Any, *, durable: bool = True) -> None:
    """Write `value` as indented JSON. Raises `OutputError`, and `ValueError` for NaN and infinities, which JSON does not have."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # Half a surrogate pair (a file name that is no UTF-8) becomes \udcxx, which is how JSON escapes it.
    atomic_write_bytes(path, text.encode("utf-8", "backslashreplace"), durable=durable)
