"""UV coordinates, by xatlas: the surface is cut into nearly flat charts that are packed without overlap.

xatlas works for many seconds without letting any other thread of Python run, so it has a process of its own, which can be ended. That
process is given the text of `xatlas_process.py` as it was when this one began: an update of the extension may have replaced the file.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import SurfaceError
from . import xatlas_process
from .xatlas_process import OUT_OF_MEMORY, packed, unpacked

_log = logging.getLogger(__name__)

_PROGRAM = Path(xatlas_process.__file__).read_text(encoding="utf-8")
_WATCH_SECONDS = 0.2

NUDGES = (0.0, 1e-4, 1e-3)
"""How far vertices are moved at random before xatlas sees them, in the mesh's extents, one after the other until it survives: it crashes on
some very regular surfaces, such as a sphere of 80,000 equal triangles. The mesh itself keeps its vertices."""


def unwrap(
    vertices: np.ndarray, faces: np.ndarray, size: int, watch: Callable[[], None] = lambda: None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Charts and their place in a square texture.

    Args:
        vertices, faces: [V, 3], [F, 3].
        size: texels along an edge of the texture.
        watch: called several times a second; may raise to stop the work.

    Returns:
        vertex_map: [W] int64, which of the V vertices each new one is (vertices on seams are repeated).
        faces: [F, 3] int32, the same faces in the same order, over the W new vertices.
        uv: [W, 2] float32 in 0..1, v upwards (see `TexturedMesh`).

    Raises:
        MemoryError: there was not enough memory for it.
        SurfaceError: xatlas failed whatever was tried.
    """
    answer = unpacked(_answer(vertices, faces, size, watch))
    uv = answer["uv"]
    # xatlas counts v downwards from the first row; we count it upwards.
    uv = np.clip(np.stack([uv[:, 0], 1.0 - uv[:, 1]], axis=1), 0.0, 1.0)
    return answer["vertex_map"].astype(np.int64), answer["faces"].astype(np.int32), uv.astype(np.float32)


class _Failed(Exception):
    """That process ended without an answer; its last words."""


def _answer(vertices: np.ndarray, faces: np.ndarray, size: int, watch: Callable[[], None]) -> bytes:
    """What xatlas makes of a mesh, or of one as near to it as it takes to survive."""
    extent, noise = float(np.ptp(vertices, axis=0).max(initial=0.0)), np.random.default_rng(0)
    last_words = ""
    for nudge in NUDGES:
        moved = vertices + nudge * extent * noise.uniform(-1.0, 1.0, np.shape(vertices)) if nudge else vertices
        request = packed(
            vertices=np.ascontiguousarray(moved, dtype=np.float32), faces=np.ascontiguousarray(faces, dtype=np.uint32), size=np.int64(size)
        )
        try:
            return _run(request, watch)
        except _Failed as error:
            last_words = str(error)
            _log.warning("xatlas failed with vertices moved by %g: %s", nudge, last_words)
    raise SurfaceError(
        f"The surface could not be unwrapped for its texture: {last_words}.",
        remedy="Order it again with another number of faces, or with another seed.",
    )


def _run(request: bytes, watch: Callable[[], None]) -> bytes:
    """The answer of that process to a request. Raises `_Failed` or `MemoryError`."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, bufsize=0
        )
        assert process.stdin is not None and process.stdout is not None
        answer: list[bytes] = []
        talk = threading.Thread(target=_talk, args=(process.stdin, process.stdout, request, answer), name="unwrap", daemon=True)
        with process:  # which closes its standard input last, and so tells it that nobody waits any more
            try:
                talk.start()
                while talk.is_alive():
                    watch()
                    talk.join(_WATCH_SECONDS)
            except BaseException:
                process.kill()
                talk.join()
                raise
            exit_code = process.wait()
        if exit_code == 0:
            return answer[0]
        if exit_code in (OUT_OF_MEMORY, -getattr(signal, "SIGKILL", 9)):
            raise MemoryError
        errors.seek(0)
        last_words = errors.read().decode("utf-8", "replace").strip().splitlines()[-1:] or [f"exit code {exit_code}"]
    raise _Failed(last_words[0])


def _talk(to: IO[bytes], back: IO[bytes], request: bytes, answer: list[bytes]) -> None:
    """Hand over the request and wait for the answer; what goes wrong shows in the exit code."""
    with contextlib.suppress(OSError):
        rest = memoryview(len(request).to_bytes(8, "little") + request)
        while rest:
            rest = rest[to.write(rest) or 0 :]
    chunks = []
    while chunk := back.read(1 << 20):
        chunks.append(chunk)
    answer.append(b"".join(chunks))
