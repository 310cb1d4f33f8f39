"""What is in the open file, and what an imported object is made of."""

from __future__ import annotations

import bpy
import numpy as np

KINDS = ("objects", "meshes", "materials", "images", "collections")


def counts() -> dict[str, int]:
    """How much there is of each kind."""
    return {kind: len(getattr(bpy.data, kind)) for kind in KINDS}


def image_of(thing: bpy.types.Object) -> bpy.types.Image:
    """An object's texture."""
    return image_of_material(thing.data.materials[0])


def image_of_material(material: bpy.types.Material) -> bpy.types.Image:
    """A material's texture."""
    return next(node.image for node in material.node_tree.nodes if node.type == "TEX_IMAGE")


def import_again(job) -> bpy.types.Object:
    """A new object of a finished job, by the operator."""
    assert bpy.ops.cograd3d.import_result(job=job.id) == {"FINISHED"}
    return bpy.context.active_object


MAGENTA = (1.0, 0.0, 1.0)


def paint(image: bpy.types.Image) -> None:
    """Make all of an image magenta, as with a brush: unsaved."""
    image.pixels.foreach_set(np.tile(np.array([*MAGENTA, 1.0], dtype=np.float32), image.size[0] * image.size[1]))
    image.update()
    assert image.is_dirty


def shown_by(image: bpy.types.Image) -> np.ndarray:
    """[H, W, 4] of an image, the bottom row first."""
    pixels = np.empty(len(image.pixels), dtype=np.float32)
    image.pixels.foreach_get(pixels)
    return pixels.reshape(image.size[1], image.size[0], 4)
