"""Pictures of an Xvfb screen and PNG files, with numpy alone. No bpy.

Xvfb keeps its screen in a memory-mapped file (`-fbdir`) in the format of xwd: reading it is a screenshot of whole windows, side panels
included, that needs no program and works from inside Blender too, where `screen.screenshot` is black under software OpenGL.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

XWD_HEADER = struct.Struct(">25I")  # see X11/XWDFile.h
XWD_COLOUR_SIZE = 12


def read_screen(file: Path) -> np.ndarray:
    """The screen now, [height, width, 3] uint8 RGB, top row first; pixel (x, y) of X11 is [y, x]."""
    data = file.read_bytes()
    fields = XWD_HEADER.unpack_from(data)
    header_size, width, height = fields[0], fields[4], fields[5]
    bits_per_pixel, bytes_per_line, colours = fields[11], fields[12], fields[19]
    if bits_per_pixel != 32:
        raise ValueError(f"the screen has {bits_per_pixel} bits a pixel instead of 32")
    pixels = np.frombuffer(data, np.uint8, height * bytes_per_line, offset=header_size + colours * XWD_COLOUR_SIZE)
    return pixels.reshape(height, bytes_per_line // 4, 4)[:, :width, 2::-1].copy()  # stored as BGRX


def write_png(file: Path, pixels: np.ndarray) -> None:
    """Write [height, width, 3] uint8 RGB, top row first."""
    height, width, _ = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), np.ascontiguousarray(pixels).reshape(height, width * 3)], axis=1)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)), chunk(b"IEND", b""))
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
