"""Objects of known size, and what objects look like, as numbers."""

from __future__ import annotations

import bpy
import numpy as np


def corners_in_scene(thing: bpy.types.Object) -> np.ndarray:
    """[V, 3] an object's vertices in the scene."""
    points = np.empty(3 * len(thing.data.vertices), dtype=np.float32)
    thing.data.vertices.foreach_get("co", points)
    matrix = np.array(thing.matrix_world)
    return points.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]


def bounds(thing: bpy.types.Object) -> tuple[np.ndarray, np.ndarray]:
    """(lowest, highest) corner of the box around an object in the scene."""
    bpy.context.view_layer.update()
    points = corners_in_scene(thing)
    return points.min(axis=0), points.max(axis=0)


def signed_volume(thing: bpy.types.Object) -> float:
    """Of a closed surface of triangles in the scene: positive if its faces are counter-clockwise seen from outside."""
    indices = np.empty(3 * len(thing.data.polygons), dtype=np.int32)
    thing.data.polygons.foreach_get("vertices", indices)
    triangles = corners_in_scene(thing)[indices.reshape(-1, 3)]
    return float(np.einsum("ni,ni->n", triangles[:, 0], np.cross(triangles[:, 1], triangles[:, 2])).sum() / 6)


def make_box(name: str, **transform) -> bpy.types.Object:
    """A placeholder from (-1, -1, -1) to (1, 1, 1) of its own frame."""
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], [], [])
    box = bpy.data.objects.new(name, mesh)
    for key, value in transform.items():
        setattr(box, key, value)
    bpy.context.scene.collection.objects.link(box)
    bpy.context.view_layer.update()
    return box
