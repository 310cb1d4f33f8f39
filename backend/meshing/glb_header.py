"""How a .glb is compressed, from its first lines: before anything else is read, and before a run is ordered. Standard library only."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError

COMPRESSIONS = {
    "KHR_draco_mesh_compression": "Draco",
    "EXT_meshopt_compression": "meshopt",
    "KHR_meshopt_compression": "meshopt",
    "KHR_texture_basisu": "Basis Universal",
}
"""Extensions that nothing here decodes, with what people call them: read all the same, a mesh would be zeros, noise or without texture."""

MAGIC, JSON_CHUNK = b"glTF", 0x4E4F534A


def refuse_compressed(path: Path) -> None:
    """Refuse a .glb that says that it cannot be read without one of `COMPRESSIONS`; its description is all that is read of it.

    What is no .glb, or a damaged one, is let through: whoever reads all of it can say what is wrong.

    Raises:
        InputError: it is compressed.
    """
    try:
        with path.open("rb") as file:
            magic, version, _, length, kind = struct.unpack("<4sIIII", file.read(20))
            if magic != MAGIC or version != 2 or kind != JSON_CHUNK:
                return
            document = json.loads(file.read(min(length, path.stat().st_size)))
    except (OSError, ValueError, RecursionError, struct.error):
        return
    if isinstance(document, dict) and (extension := required_compression(document)):
        raise InputError(
            f"{path.name} is compressed by {extension} ({COMPRESSIONS[extension]}), which is not read.",
            remedy="Export it again without compression.",
        )


def required_compression(document: Mapping[str, Any]) -> str:
    """The extension of `COMPRESSIONS` without which a glTF document says that it cannot be read; empty if there is none."""
    required = document.get("extensionsRequired")
    return next((name for name in COMPRESSIONS if name in required), "") if isinstance(required, list) else ""
