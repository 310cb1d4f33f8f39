"""Where in the open file assets go: measured when they are ordered, looked up when they come. A file that is saved under another name takes
the jobs that were ordered from it along.
"""

from __future__ import annotations

import logging
import secrets
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ...backend.errors import OutputError
from .. import session
from ..jobs import Job
from ..jobs.claim import read_claim
from ..placement import Home, Placement, move_home, order_document, placed_in_box, read_home, read_placement

_document = secrets.token_hex(8)
_path_before = ""
"""Of the open file, when the saving began that is going on."""

_log = logging.getLogger(__name__)


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


def order_for(scene: bpy.types.Scene, like: Path | None = None, improves: str = "") -> dict[str, Any]:
    """The content of the `blender.json` of a job that is started from this scene.

    Args:
        scene: where its result is to be imported.
        like: folder of an earlier job, whose place is to be taken over.
        improves: name of the object that it is to improve.
    """
    placement = read_placement(like) if like is not None else None
    improved = bpy.data.objects.get(improves)
    home = Home(
        scene=scene.name,
        key=scene.cograd3d.ensure_key(),
        file=bpy.data.filepath,
        document=_document,
        scene_uid=scene.session_uid,
        improves=improves,
        improves_uid=improved.session_uid if improved is not None else 0,
    )
    return order_document(placement or placement_for(scene), home)


def is_home_file(home: Home | None) -> bool:
    """Whether a job was started from the file that is open."""
    return home is not None and home.is_file(bpy.data.filepath, _document)


def is_home_document(home: Home) -> bool:
    """Whether that file was not loaded again since, so that what has another `session_uid` than is noted is something else."""
    return home.document == _document


def home_scene(home: Home | None) -> bpy.types.Scene | None:
    """The scene that a job was started from, whatever it is called by now, if it is in the file that is open."""
    if home is None or not is_home_file(home):
        return None
    if home.scene_uid and is_home_document(home):
        return next((scene for scene in bpy.data.scenes if scene.session_uid == home.scene_uid), None)
    name = home.find({scene.name: scene.cograd3d.key for scene in bpy.data.scenes})
    return bpy.data.scenes[name] if name else None


def scene_of(job: Job) -> bpy.types.Scene | None:
    """The scene that a job's preview and its result come into by themselves: the one that it was started from, if it is in the file that is
    open. None where another Blender that has the same file open follows the job.
    """
    claim = read_claim(job.path)
    is_ours = claim is None or claim.is_mine or claim.is_abandoned
    return home_scene(read_home(job.path)) if is_ours else None


@bpy.app.handlers.persistent
def _on_load(*_: Any) -> None:
    global _document
    _document = secrets.token_hex(8)


@bpy.app.handlers.persistent
def _before_save(*_: Any) -> None:
    global _path_before
    _path_before = bpy.data.filepath


@bpy.app.handlers.persistent
def _after_save(*_: Any) -> None:
    """A copy and the startup file are saved without the open file changing its path: nothing moves."""
    if bpy.data.filepath != _path_before:
        _move_homes(_path_before, bpy.data.filepath)


def _move_homes(before: str, now: str) -> None:
    from .standing import forget  # which needs this module

    for job in session.manager().jobs:
        home = read_home(job.path)
        if home is not None and home.is_file(before, _document):
            try:
                move_home(job.path, now)
            except (OutputError, ValueError) as error:  # not numbers, in a damaged one: the others move, and this can be imported by hand
                _log.warning("%s", error)
    forget()


_HANDLERS = {"load_post": _on_load, "save_pre": _before_save, "save_post": _after_save}


def register() -> None:
    """Notice when another file is opened, and when this one gets another path."""
    for name, handler in _HANDLERS.items():
        getattr(bpy.app.handlers, name).append(handler)


def unregister() -> None:
    """Undo `register`."""
    for name, handler in _HANDLERS.items():
        functions = getattr(bpy.app.handlers, name)
        if handler in functions:
            functions.remove(handler)
