"""GLBs as other programs write them, accessor by accessor."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], "<f4")
FACES = np.array([0, 2, 1, 0, 1, 3, 0, 3, 2, 1, 2, 3], "<u2")
"""With `CORNERS` a tetrahedron."""

_KINDS = {"u1": 5121, "i1": 5120, "u2": 5123, "i2": 5122, "u4": 5125, "f4": 5126}


def write_glb(
    path: Path,
    *primitives: Mapping[str, Any],
    nodes: Sequence[Mapping[str, Any]] = ({"mesh": 0},),
    materials: Sequence[Mapping[str, Any]] = (),
    images: Sequence[bytes] = (),
    extensions: Sequence[str] = (),
    edit: Callable[[dict[str, Any]], None] = lambda document: None,
) -> Path:
    """Write one mesh.

    Args:
        primitives: attributes and `indices` as arrays, of integers as (array, normalised); `material` and `mode` as in glTF.
        images: PNGs; texture k shows the k-th.
        extensions: required ones.
        edit: changes the document before it is written.
    """
    binary, views, accessors = bytearray(), [], []

    def view(data: bytes) -> int:
        binary.extend(bytes(-len(binary) % 4))
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(data)})
        binary.extend(data)
        return len(views) - 1

    def accessor(array: Any) -> int:
        array, normalized = array if isinstance(array, tuple) else (array, False)
        kind = "SCALAR" if array.ndim == 1 else f"VEC{array.shape[1]}"
        described = {"bufferView": view(array.tobytes()), "componentType": _KINDS[array.dtype.str[1:]], "count": len(array), "type": kind}
        accessors.append(described | {"normalized": True} if normalized else described)
        return len(accessors) - 1

    written = []
    for primitive in primitives:
        plain = {name: value for name, value in primitive.items() if name in ("material", "mode", "extensions")}
        if "indices" in primitive:
            plain["indices"] = accessor(primitive["indices"])
        plain["attributes"] = {name: accessor(value) for name, value in primitive.items() if name.isupper()}
        written.append(plain)
    document: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": list(range(len(nodes)))}],
        "nodes": list(nodes),
        "meshes": [{"primitives": written}],
        "accessors": accessors,
        "images": [{"bufferView": view(png), "mimeType": "image/png"} for png in images],
        "textures": [{"source": k} for k in range(len(images))],
        "materials": list(materials),
        "bufferViews": views,
        "extensionsUsed": list(extensions),
        "extensionsRequired": list(extensions),
    }
    document = {name: value for name, value in document.items() if value or name == "scene"}
    edit(document)
    binary.extend(bytes(-len(binary) % 4))
    document["buffers"] = [{"byteLength": len(binary)}]
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    header = struct.pack("<4sIIII", b"glTF", 2, 28 + len(text) + len(binary), len(text), 0x4E4F534A)
    path.write_bytes(header + text + struct.pack("<II", len(binary), 0x004E4942) + binary)
    return path
