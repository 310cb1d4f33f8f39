"""Pipes that never block, on POSIX systems and on Windows. No bpy."""

from __future__ import annotations

import contextlib
import errno
import os
import sys

_PIPE_NOWAIT = 1
_LARGE = 1 << 20

_NOTHING_YET = frozenset((errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR))
_WINDOWS_NOTHING_YET = frozenset((errno.EINVAL, errno.EPIPE))
"""How the C library of Windows words ERROR_NO_DATA of a pipe in PIPE_NOWAIT; the end of the pipe is an empty read there too."""

_WINDOWS_NO_ROOM = frozenset((errno.ENOSPC, errno.EAGAIN))
"""A write that found no room took 0 bytes, which the same library reports as a full device."""


def make_nonblocking(descriptor: int) -> None:
    """Make reading and writing of one end of a pipe return at once, whatever there is."""
    if sys.platform == "win32" and sys.version_info < (3, 12):  # before, os.set_blocking was for POSIX only
        import _winapi
        import msvcrt

        _winapi.SetNamedPipeHandleState(msvcrt.get_osfhandle(descriptor), _PIPE_NOWAIT, None, None)
        return
    os.set_blocking(descriptor, False)


def enlarge(descriptor: int) -> None:
    """Let a pipe hold more than 64 KiB where the system can do that, so that a reader who comes by now and then misses less."""
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):  # over the limit of this user's pipes: a small one does as well
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _LARGE)


def read_some(descriptor: int, limit: int) -> bytes | None:
    """What there is, at most `limit` bytes: None for nothing yet, b"" at the end."""
    try:
        return os.read(descriptor, limit)
    except OSError as error:
        if error.errno in _NOTHING_YET or (sys.platform == "win32" and error.errno in _WINDOWS_NOTHING_YET):
            return None
        return b""  # broken: as good as the end


def write_some(descriptor: int, data: bytes | memoryview) -> int:
    """Write what there is room for; returns the number of bytes. Raises `BrokenPipeError` if nobody reads at the other end."""
    try:
        return os.write(descriptor, data)
    except OSError as error:
        if error.errno in _NOTHING_YET or (sys.platform == "win32" and error.errno in _WINDOWS_NO_ROOM):
            return 0
        raise BrokenPipeError(error.errno, "nobody reads any more") from error
