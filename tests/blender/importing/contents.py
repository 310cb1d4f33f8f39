"""What is in the open file, and what an imported object is made of."""

from __future__ import annotations

import bpy

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
