"""What a mesh or a point cloud from outside may hold that parsers let through and nothing after them can bear.

Kernels index with what they are given, and numba checks no bounds: a NaN among texture coordinates ends the whole process. Plain numpy.
"""

from __future__ import annotations

import numpy as np

LARGEST_COORDINATE = 1e15
"""Far beyond any scene; its square still fits into single precision."""


def find_fault(
    vertices: np.ndarray, faces: np.ndarray | None = None, *, uv: np.ndarray | None = None, colors: np.ndarray | None = None
) -> str | None:
    """What is wrong, as the end of a sentence about the file; None if nothing is.

    Args:
        vertices: [V, 3] positions.
        faces: [F, 3] indices of them.
        uv: [V, 2] texture coordinates.
        colors: [V, 3] or more channels.
    """
    if faces is not None and len(faces) and not 0 <= faces.min() <= faces.max() < len(vertices):
        return "it has a face of a vertex that is not there"
    for what, values in (("coordinates", vertices), ("texture coordinates", uv), ("colours", colors)):
        if values is None:
            continue
        if len(values) != len(vertices):
            return f"it has {len(values)} {what} for {len(vertices)} vertices"
        if not np.isfinite(values).all():
            return f"it holds {what} that are not finite"
        if len(values) and np.abs(values).max() > LARGEST_COORDINATE:
            return f"it holds {what} beyond {LARGEST_COORDINATE:.0e}"
    return None
