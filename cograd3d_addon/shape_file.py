"""Meshes that a run starts from, as files: each once, named after its content. No bpy."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..backend.errors import InputError
from ..backend.files import atomic_write_bytes, output_error
from ..backend.protocol import JobSpec

FOLDER = ".shapes"
"""Below the folder of all jobs, beside the jobs."""

_NEW_SECONDS = 600.0
"""How long a shape may be there before its job is: more than any order takes."""


def write_shape(jobs: Path, vertices: np.ndarray, triangles: np.ndarray) -> Path:
    """A mesh as a binary .ply below the folder of all jobs; the same mesh gives the same file.

    Args:
        jobs: the folder of all jobs; made if missing.
        vertices: [N, 3] Z up, front -Y; where and how large does not matter.
        triangles: [M, 3] indices.

    Raises:
        InputError: there are no faces.
        OutputError: it cannot be written.
    """
    if not len(triangles):
        raise InputError("The selected object has no faces to start from.", remedy="Choose a mesh with a surface, or start from nothing.")
    faces = np.empty(len(triangles), dtype=[("count", "u1"), ("indices", "<i4", 3)])
    faces["count"], faces["indices"] = 3, triangles
    header = (
        "ply\nformat binary_little_endian 1.0\n"
        f"element vertex {len(vertices)}\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    data = header.encode("ascii") + np.ascontiguousarray(vertices, "<f4").tobytes() + faces.tobytes()
    path = jobs / FOLDER / f"{hashlib.sha256(data).hexdigest()[:16]}.ply"
    if path.exists():
        with contextlib.suppress(OSError):  # it may be another user's
            os.utime(path)
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(error, path.parent) from error
    atomic_write_bytes(path, data)
    return path


def starts_of(spec: JobSpec, config: Mapping[str, Any]) -> set[str]:
    """The files that a job starts from, or that one ordered like it would: a refinement starts from splats, but the same at another quality
    from the shape that was asked for first.

    Args:
        spec: what was asked for.
        config: the job's `config.json`, whatever is in it.
    """
    section = config.get("gaussians")
    settled = section.get("initial") if isinstance(section, Mapping) else None
    return {str(name) for name in (spec.initial, spec.overrides.get("gaussians.initial"), settled) if name}


def remove_unused(jobs: Path, used: Iterable[str]) -> None:
    """Delete the shapes that no job names any more, unless they were written a moment ago: another Blender may be about to order with them.

    Args:
        jobs: the folder of all jobs.
        used: what all jobs in it start from. Only the files' names count: they tell the content, and the folder may be spelled in several
            ways.
    """
    names = {Path(name).name for name in used}
    for path in (jobs / FOLDER).glob("*.ply"):
        with contextlib.suppress(OSError):  # what stays is looked at again next time
            if path.name not in names and time.time() - path.stat().st_mtime > _NEW_SECONDS:
                path.unlink()
