"""What objects look like, as numbers."""

from __future__ import annotations

import bpy
import numpy as np


def corners_in_scene(thing: bpy.types.Object) -> np.ndarray:
    """[V, 3] an object's vertices in the scene."""
    points = np.empty(3 * len(thing.data.vertices), dtype=np.float32)
    thing.data.vertices.foreach_get("co", points)
    matrix = np.array(thing.matrix_world)
    return points.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]
