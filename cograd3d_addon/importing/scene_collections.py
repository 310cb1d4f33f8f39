"""The collections that results and previews are put into, one of each kind a scene."""

from __future__ import annotations

import bpy

RESULTS = "CoGrad3D"
PREVIEW = "CoGrad3D Preview"

_ROLE = "cograd3d_role"


def collection_of(scene: bpy.types.Scene, role: str) -> bpy.types.Collection:
    """The scene's collection for `RESULTS` or `PREVIEW`; a new one if it has none. The user may rename and move it."""
    for collection in scene.collection.children_recursive:
        if collection.get(_ROLE) == role and collection.library is None and collection.override_library is None:
            return collection
    collection = bpy.data.collections.new(role)
    collection[_ROLE] = role
    if role == PREVIEW:
        collection.hide_render = True
    scene.collection.children.link(collection)
    return collection


def remove_if_empty(collection: bpy.types.Collection) -> None:
    """Remove one of our collections that holds nothing any more."""
    if _ROLE in collection and not collection.objects and not collection.children:
        bpy.data.collections.remove(collection)


def find(role: str) -> list[bpy.types.Collection]:
    """All collections of that kind in the file."""
    return [collection for collection in bpy.data.collections if collection.get(_ROLE) == role]
