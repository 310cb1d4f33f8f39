"""Where a job's asset stands in a scene now."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np

from ..jobs import Job
from ..placement import Home, Placement, provisional_matrix, read_home, read_placement
from . import metadata
from .placing import home_scene
from .results import import_count, is_result, object_to_improve, showed, shows, world_frame

_SEARCH_INTERVAL = 1.0

_Key = tuple[str, str, Home | None]
"""A job, a scene by name, and if what a refinement is to improve is looked for, what is noted of the refinement's order."""

_found: dict[_Key, tuple[str, int]] = {}
"""Objects by name, which is looked up quickly, and `session_uid`: another one may have got the name."""

_searched: dict[_Key, tuple[float, int]] = {}


@dataclass(frozen=True)
class Standing:
    """A job's asset, seen from a scene.

    Attributes:
        matrix: [4, 4] the backend's world to the scene: as the imported object stands, or the one that the job improves; else where it
            was ordered.
        thing: that object, if it is in the scene.
        is_here: whether the asset stands in the scene, or will: the job was ordered from it, or from nowhere, and goes on.
    """

    matrix: np.ndarray
    thing: bpy.types.Object | None
    is_here: bool


def standing(job: Job, scene: bpy.types.Scene) -> Standing:
    """Where a job's asset stands.

    Cheap enough for every redraw: objects that are not there are searched once a second at most.
    """
    thing = next(_candidates(job, scene), None)
    if thing is not None:
        return Standing(world_frame(thing), thing, True)
    home = _home(job.path)
    return Standing(_ordered_matrix(job.path), None, not job.status.is_over and (home is None or home_scene(home) == scene))


def is_in(thing: bpy.types.Object, scene: bpy.types.Scene) -> bool:
    """Whether an object is in a scene, hidden or not."""
    if any(thing.visible_get(view_layer=layer) or thing.hide_get(view_layer=layer) for layer in scene.view_layers):
        return True
    return scene.objects.get(thing.name) == thing  # goes through all of them until it is found


def turn_to(thing: bpy.types.Object, scene: bpy.types.Scene) -> None:
    """Of the objects that show the same job, as duplicates do, the user works with this one: its asset stands here from now on."""
    _found[str(thing[metadata.KEY].get("job", "")), scene.name, None] = thing.name, thing.session_uid


def forget() -> None:
    """Look again: another file was opened, something was undone, or this file was saved under another name."""
    _searched.clear()
    _home.cache_clear()


def _candidates(job: Job, scene: bpy.types.Scene) -> Iterator[bpy.types.Object]:
    """The objects in a scene that show a job's asset, the most fitting first."""
    if (thing := _find(job.id, scene)) is not None:
        yield thing
    if job.spec.refines and (thing := _find(Path(job.spec.refines).name, scene, _home(job.path))) is not None:
        yield thing


def _find(job_id: str, scene: bpy.types.Scene, home: Home | None = None) -> bpy.types.Object | None:
    key = (job_id, scene.name, home)
    name, uid = _found.get(key, ("", 0))
    thing = _if_it_fits(bpy.data.objects.get(name), job_id, scene)
    if thing is not None and thing.session_uid != uid:
        thing = None
    if home is None or not home.improves:
        active = _if_it_fits(bpy.context.view_layer.objects.active if bpy.context.view_layer else None, job_id, scene)
        if active is not None and (shows(active, job_id) or (thing is not None and not shows(thing, job_id))):
            thing = active
    if thing is not None:
        _found[key] = thing.name, thing.session_uid
        return thing
    _found.pop(key, None)
    # An import is not to go unnoticed until the next redraw but one, which may be long after.
    now, imports = time.monotonic(), import_count()
    moment, imports_then = _searched.get(key, (-_SEARCH_INTERVAL, -1))
    if now - moment < _SEARCH_INTERVAL and imports == imports_then:
        return None
    _searched[key] = (now, imports)
    thing = object_to_improve(job_id, scene, home)
    if thing is not None:
        _found[key] = thing.name, thing.session_uid
        del _searched[key]
    return thing


def _if_it_fits(thing: bpy.types.Object | None, job_id: str, scene: bpy.types.Scene) -> bpy.types.Object | None:
    """An object if it shows a job's asset, or showed it, in a scene."""
    fits = thing is not None and is_result(thing) and (shows(thing, job_id) or showed(thing, job_id)) and is_in(thing, scene)
    return thing if fits else None


@functools.lru_cache(maxsize=64)
def _home(folder: Path) -> Home | None:
    """It is written before the job is there, and changes only when the file gets another name."""
    return read_home(folder)


@functools.lru_cache(maxsize=64)
def _ordered_matrix(folder: Path) -> np.ndarray:
    """Written as early, and it stays."""
    return provisional_matrix(read_placement(folder) or Placement())
