"""What the process does that unwraps a mesh for `unwrap.py`: one request on standard input, one answer on standard output, as .npz files.

It runs from its text alone, so it imports no other file of ours.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading

import numpy as np

PADDING = 4
"""Texels between two charts, in the atlas that xatlas makes. That is larger than was asked for, the more so the more charts there are, and
is scaled down: of four texels there stay three with fifty charts, two with five thousand in 1024 texels. Enough for bilinear lookups and
the first mipmap not to mix them. To hold more, charts would have to be smaller, which costs more detail than it saves from bleeding."""

OUT_OF_MEMORY = 71
"""The exit code that says so."""


def packed(**arrays: np.ndarray | np.generic) -> bytes:
    """Arrays by name as the content of an .npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # numpy's stubs take the names for its own options
    return buffer.getvalue()


def unpacked(data: bytes) -> dict[str, np.ndarray]:
    """The inverse of `packed`; nothing is unpickled."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _serve() -> int:
    """Answer the one request on standard input; end at once when that is closed, for then nobody waits for the answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches both: the other end decides what it means
    output = os.dup(1)
    os.dup2(2, 1)
    length = int.from_bytes(sys.stdin.buffer.read(8), "little")
    request = unpacked(sys.stdin.buffer.read(length))
    _end_with_standard_input()
    try:
        answer = memoryview(packed(**charts(request["vertices"], request["faces"], int(request["size"]))))
    except MemoryError:
        return OUT_OF_MEMORY
    while answer:
        answer = answer[os.write(output, answer) :]
    return 0


def _end_with_standard_input() -> None:
    """By a signal where the system has it, since a thread has no turn while xatlas works."""
    if sys.platform != "win32":
        import fcntl

        with contextlib.suppress(OSError):
            signal.signal(signal.SIGIO, signal.SIG_DFL)
            fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
            fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def charts(vertices: np.ndarray, faces: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """What xatlas makes of [V, 3] float32 and [F, 3] uint32 for `size` texels; `uv` is [W, 2], v downwards."""
    import xatlas

    atlas = xatlas.Atlas()
    atlas.add_mesh(vertices, faces)
    cutting = xatlas.ChartOptions()
    cutting.max_iterations = 1
    cutting.max_cost = 4.0
    packing = xatlas.PackOptions()
    packing.resolution = size
    packing.padding = PADDING
    packing.bilinear = True
    packing.rotate_charts_to_axis = True
    atlas.generate(cutting, packing)
    vertex_map, new_faces, uv = atlas[0]
    return {"vertex_map": vertex_map, "faces": new_faces, "uv": uv}


if __name__ == "__main__":
    sys.exit(_serve())
