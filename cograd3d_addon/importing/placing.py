"""Where in the open file assets go: measured when they are ordered, looked up when they come."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ..placement import Home, Placement, order_document, placed_in_box, read_home, read_placement

_document = secrets.token_hex(8)


def placement_for(scene: bpy.types.Scene) -> Placement:
    """Where an asset that is ordered now shall stand: in the placeholder's box, else at the 3D cursor with the height that is set."""
    settings = scene.cograd3d
    placeholder = placeholder_of(scene)
    if placeholder is not None:
        return placement_in(placeholder, settings.height)
    return Placement(origin=tuple(scene.cursor.location), height=settings.height)


def placeholder_of(scene: bpy.types.Scene) -> bpy.types.Object | None:
    """The placeholder that is chosen, if it is still in the scene: the setting holds it in the file after it was deleted."""
    placeholder = scene.cograd3d.fit_object
    return placeholder if placeholder is not None and placeholder.name in scene.objects else None


def placement_in(placeholder: bpy.types.Object, height: float) -> Placement:
    """The placement that fills a placeholder's box; an empty counts as large as it is drawn if that is a cube or a sphere.

    Args:
        placeholder: any object.
        height: metres, where it has no size at all.
    """
    if placeholder.type == "EMPTY":
        size = placeholder.empty_display_size if placeholder.empty_display_type in ("CUBE", "SPHERE") else 0.0
        corners = size * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
    else:
        corners = np.array(placeholder.bound_box, dtype=np.float64)
    matrix = np.array(placeholder.matrix_world, dtype=np.float64)
    corners = corners @ matrix[:3, :3].T + matrix[:3, 3]
    return placed_in_box(corners, placeholder.matrix_world.to_euler().z, target=placeholder.name, height=height)


def current_placement(scene: bpy.types.Scene, folder: Path) -> Placement:
    """Where a job's asset that comes now shall stand: as ordered, if from this scene, in the placeholder's box as it is by now; else as the
    scene's settings say.
    """
    ordered = read_placement(folder)
    if ordered is None or (read_home(folder) is not None and home_scene(read_home(folder)) != scene):
        return placement_for(scene)
    placeholder = scene.objects.get(ordered.target) if ordered.target else None
    return placement_in(placeholder, ordered.height) if placeholder is not None else ordered


def order_for(scene: bpy.types.Scene, like: Path | None = None) -> dict[str, Any]:
    """The content of the `blender.json` of a job that is started from this scene.

    Args:
        scene: where its result is to be imported.
        like: folder of an earlier job, whose place is to be taken over.
    """
    placement = read_placement(like) if like is not None else None
    home = Home(scene=scene.name, key=scene.cograd3d.ensure_key(), file=bpy.data.filepath, document=_document)
    return order_document(placement or placement_for(scene), home)


def is_home_file(home: Home | None) -> bool:
    """Whether a job was started from the file that is open."""
    return home is not None and home.is_file(bpy.data.filepath, _document)


def home_scene(home: Home | None) -> bpy.types.Scene | None:
    """The scene that a job was started from, whatever it is called by now, if it is in the file that is open."""
    if home is None or not is_home_file(home):
        return None
    name = home.find({scene.name: scene.cograd3d.key for scene in bpy.data.scenes})
    return bpy.data.scenes[name] if name else None


@bpy.app.handlers.persistent
def _on_load(*_: Any) -> None:
    global _document
    _document = secrets.token_hex(8)


def register() -> None:
    """Notice when another file is opened."""
    bpy.app.handlers.load_post.append(_on_load)


def unregister() -> None:
    """Undo `register`."""
    if _on_load in bpy.app.handlers.load_post:
        bpy.app.handlers.load_post.remove(_on_load)
