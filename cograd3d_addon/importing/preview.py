"""The asset as it grows: one object a running job, changed in place, never rendered, and gone when the job ends.

Nothing here makes an undo step. Undoing, redoing and loading a file may take the object away or bring an old state back; it is put right at
the next tick. If the user deletes it, the job gets no other. While Blender renders, bakes or calculates, nothing is made, changed or
removed; a tick after that catches up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
from bpy.app.handlers import persistent
from mathutils import Matrix

from ...backend.protocol import Bye, Event, PreviewReady
from .. import session
from ..jobs import Job
from ..package import preferences
from ..placement import Placement, provisional_matrix, read_home, read_placement
from . import preview_mesh
from .gaussian_mesh import GaussianMesh
from .placing import scene_of
from .reader import PreviewReader
from .results import object_name, object_to_improve
from .scene_collections import PREVIEW, collection_of, find, remove_if_empty
from .undo import is_file_locked

MARK = "cograd3d_preview"
"""Custom property of everything that belongs to a preview: the job's id."""

_DEFAULT_POINTS = 50_000


@dataclass
class _Preview:
    """What is known of a job's preview.

    Attributes:
        gaussians: the latest.
        name: of its object, for finding it quickly.
        is_there: whether its object was there when last looked for.
        is_unwanted: the user deleted it.
    """

    gaussians: GaussianMesh
    name: str = ""
    is_there: bool = False
    is_unwanted: bool = False


_previews: dict[str, _Preview] = {}
_reader = PreviewReader()
_kept: set[str] = set()
_leftover: set[str] = set()
"""Jobs whose previews were to go while the file was locked."""


def object_of(job_id: str) -> bpy.types.Object | None:
    """The preview of a job, if it is in the open file."""
    known = _previews.get(job_id)
    if known is not None and known.name:
        thing = bpy.data.objects.get(known.name)
        if thing is not None and thing.get(MARK) == job_id:
            return thing
    return next((thing for group in find(PREVIEW) for thing in group.objects if thing.get(MARK) == job_id), None)


def keep(job_id: str) -> None:
    """Let a job's preview stand although the job is over, because its result cannot be imported yet. `remove` ends that."""
    _kept.add(job_id)


def remove(job_id: str) -> None:
    """Take a job's preview away, with everything that was made for it."""
    _previews.pop(job_id, None)
    _kept.discard(job_id)
    _remove_data(job_id)


def on_event(job: Job, event: Event) -> None:
    """Follow a job: a new preview is read; at the end it goes."""
    if isinstance(event, PreviewReady) and event.region < 0 and job.preview_splats is not None and _scene_of(job) is not None:
        known = _previews.get(job.id)
        if known is None or not known.is_unwanted:
            _reader.request(job.id, job.preview_splats, _limit())
            session.register_poller(tick)
    elif isinstance(event, Bye) and job.id not in _kept:
        remove(job.id)


def tick() -> None:
    """Show what was read, and put right what undo, redo and loading did."""
    notice_deletions()
    for job_id, gaussians in _reader.take().items():
        if not _is_wanted(job_id):
            continue  # it ended while they were read
        known = _previews.setdefault(job_id, _Preview(gaussians))
        known.gaussians = gaussians
        if not _is_put_off():
            _show(job_id, known)
    if not _reader.is_busy:
        session.unregister_poller(tick)


def reconcile() -> None:
    """After undo, redo, load, or a lock of the file: previews of jobs that are over go, the others show their latest state again."""
    if _is_put_off():
        return
    session.unregister_poller(reconcile)
    for job_id in {str(thing.get(MARK, "")) for group in find(PREVIEW) for thing in group.objects} - {""}:
        if not _is_wanted(job_id):
            _remove_data(job_id)
    for job_id, known in _previews.items():
        if object_of(job_id) is not None:
            known.is_unwanted = False  # its deletion was undone
        if not known.is_unwanted:
            _show(job_id, known)
    leftover = set(_leftover)
    _leftover.clear()
    for job_id in leftover:
        if job_id not in _previews or _previews[job_id].is_unwanted:  # else it has a preview again
            _remove_data(job_id)


def _is_put_off() -> bool:
    """Whether nothing may be made or removed now; `reconcile` then does it afterwards."""
    if is_file_locked():
        session.register_poller(reconcile)
        return True
    return False


def notice_deletions() -> None:
    """Find out whether the user deleted a preview, and remove what is left of it."""
    for job_id, known in _previews.items():
        if _notice_deletion(job_id, known):
            _remove_data(job_id)


def _notice_deletion(job_id: str, known: _Preview) -> bool:
    if not known.is_there or object_of(job_id) is not None:
        return False
    known.is_there, known.is_unwanted = False, True
    return True


def _is_wanted(job_id: str) -> bool:
    job = session.manager().get(job_id)
    return job_id in _kept or (job is not None and job.status.is_live)


def _scene_of(job: Job) -> bpy.types.Scene | None:
    """Where a job's preview belongs: where it was started, unless the object that it improves stands there already."""
    scene = scene_of(job)
    if scene is not None and job.spec.refines and object_to_improve(Path(job.spec.refines).name, scene, read_home(job.path)) is not None:
        return None
    return scene


def _limit() -> int:
    try:
        return int(preferences().preview_points)
    except (KeyError, AttributeError):  # while the extension is being enabled or disabled
        return _DEFAULT_POINTS


def _show(job_id: str, known: _Preview) -> None:
    job = session.manager().get(job_id)
    scene = _scene_of(job) if job is not None and _is_wanted(job_id) else None
    if job is None or scene is None or known.is_unwanted:
        return
    thing = object_of(job_id) or _make(job, scene)
    known.name, known.is_there = thing.name, True
    if thing.type == "MESH" and not thing.data.is_editmode:
        preview_mesh.fill(thing.data, known.gaussians)


def _make(job: Job, scene: bpy.types.Scene) -> bpy.types.Object:
    name = f"{object_name(job.spec.prompt)} (Preview)"
    mesh = bpy.data.meshes.new(name)
    mesh[MARK] = job.id
    for material in preview_mesh.make_materials(name):
        material[MARK] = job.id
        mesh.materials.append(material)
    thing = bpy.data.objects.new(name, mesh)
    thing[MARK] = job.id
    thing.hide_render = True
    thing.hide_select = True
    thing.matrix_world = Matrix(provisional_matrix(read_placement(job.path) or Placement()))
    collection_of(scene, PREVIEW).objects.link(thing)
    return thing


def _remove_data(job_id: str) -> None:
    """Objects, mesh, materials and, if nothing is left in it, the collection. What the user took for something else, and put into another
    collection, stays, and is no preview any more.
    """
    if _is_put_off():
        _leftover.add(job_id)
        return
    shown = {thing for collection in find(PREVIEW) for thing in collection.objects}
    marked = _marked(bpy.data.objects, job_id)
    for thing in marked:
        if thing not in shown:
            del thing[MARK]
    bpy.data.batch_remove([thing for thing in marked if thing in shown])
    for datablocks in (bpy.data.meshes, bpy.data.materials):
        bpy.data.batch_remove([datablock for datablock in _marked(datablocks, job_id) if datablock.users == 0])
    for collection in find(PREVIEW):
        remove_if_empty(collection)


def _marked(datablocks: Iterable[bpy.types.ID], job_id: str) -> list[bpy.types.ID]:
    return [datablock for datablock in datablocks if datablock.get(MARK) == job_id and datablock.library is None]


@persistent
def _before_undo(*_: Any) -> None:
    """What is missing now was deleted by the user; what is missing afterwards, by undo."""
    for job_id, known in _previews.items():
        _notice_deletion(job_id, known)


@persistent
def _after_undo(*_: Any) -> None:
    """Data is not touched inside Blender's undo: the next tick does it."""
    for known in _previews.values():
        known.is_there = False
    session.register_poller(reconcile)


_HANDLERS = {
    "undo_pre": _before_undo,
    "redo_pre": _before_undo,
    "undo_post": _after_undo,
    "redo_post": _after_undo,
    "load_post": _after_undo,
}


def register() -> None:
    """Follow all jobs."""
    session.subscribe(on_event)
    session.subscribe_tick(notice_deletions)
    session.register_poller(reconcile)
    for name, handler in _HANDLERS.items():
        getattr(bpy.app.handlers, name).append(handler)


def unregister() -> None:
    """Follow no job any more, and take all previews away."""
    for name, handler in _HANDLERS.items():
        functions = getattr(bpy.app.handlers, name)
        if handler in functions:
            functions.remove(handler)
    session.unsubscribe(on_event)
    session.unsubscribe_tick(notice_deletions)
    _reader.close()
    for job_id in list(_previews):
        remove(job_id)  # while the file is locked, they stay until the add-on is enabled again
    for poller in (tick, reconcile):
        session.unregister_poller(poller)
    _kept.clear()
    _leftover.clear()
