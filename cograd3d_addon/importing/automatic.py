"""Results that come into the scene by themselves when their job is done."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from pathlib import Path

import bpy

from ...backend.errors import CoGradError
from ...backend.protocol import Bye, Event
from .. import session
from ..jobs import Job, JobStatus
from ..placement import read_home
from . import preview
from .placing import home_scene, is_home_file, scene_of
from .results import import_onto, import_result, is_linked, object_of_job, object_to_improve
from .undo import obstacle

_log = logging.getLogger(__name__)

_waiting: dict[str, str] = {}
_ended: dict[str, Job] = {}
"""Those that wait: the list forgets them if another folder of jobs is chosen meanwhile."""

_problems: dict[str, str] = {}
_left: set[str] = set()

_LEFT = "COGRAD3D_RESULTS_LEFT"
"""A variable, since a reload of the add-on does not reach those: the jobs whose results wait, and in which process."""


def state(job: Job) -> str:
    """What became of a job's import, for the panel: why it waits or what went wrong; empty if there is nothing to say."""
    if job.id in _waiting:
        return f"The result {_waiting[job.id]}." if _waiting[job.id] else ""
    return _problems.get(job.id, "")


def forget(job_id: str) -> None:
    """The user has imported it, or does not want it."""
    _waiting.pop(job_id, None)
    _ended.pop(job_id, None)
    _problems.pop(job_id, None)
    preview.remove(job_id)


def bring(job: Job, scene: bpy.types.Scene) -> bpy.types.Object:
    """A finished job's result into the scene: in place of the object that it improves, if that is there and this file's own, else as a new
    one.

    Raises:
        CoGradError: it cannot be imported; the scene is as before.
    """
    improved = object_to_improve(Path(job.spec.refines).name, scene, read_home(job.path)) if job.spec.refines else None
    if improved is None or is_linked(improved):
        return import_result(job.folder, scene)
    import_onto(job.folder, improved)
    return improved


def on_event(job: Job, event: Event) -> None:
    """At a job's good end its result is brought, at once or when nothing is in the way any more."""
    if not isinstance(event, Bye) or job.status is not JobStatus.FINISHED:
        return
    scene = scene_of(job)
    if scene is None and is_home_file(home := read_home(job.path)) and home_scene(home) is None:
        _problems[job.id] = "The scene that it was ordered from is gone: import it into another one yourself."
    if scene is None or not scene.cograd3d.import_when_done:
        return
    _wait_for(job)
    tick()


def _wait_for(job: Job) -> None:
    _problems.pop(job.id, None)
    _waiting[job.id], _ended[job.id] = "", job
    preview.keep(job.id)
    session.register_poller(tick)


def tick() -> None:
    """Bring what waits, if nothing is in the way."""
    reason = obstacle() if _waiting else ""
    for job_id in list(_waiting):
        _waiting[job_id] = reason
        if not reason:
            _finish(job_id)
    if not _waiting:
        session.unregister_poller(tick)


def _finish(job_id: str) -> None:
    """Bring what waited, in an undo step that is the import alone.

    In a window an operator does it: Adjust Last Operation goes back to before the last one that Blender knows of, and would take an import
    that came after it away.
    """
    windows = bpy.context.window_manager.windows
    with contextlib.ExitStack() as stack:
        if windows:
            stack.enter_context(bpy.context.temp_override(window=bpy.context.window or windows[0]))
        if windows and not bpy.app.background:
            if bpy.ops.cograd3d.bring_result.poll():  # else it waits on
                bpy.ops.cograd3d.bring_result("EXEC_DEFAULT", True, job=job_id)
        elif bring_ordered(job_id) and bpy.ops.ed.undo_push.poll():
            bpy.ops.ed.undo_push(message="Import Result")


def bring_ordered(job_id: str) -> bool:
    """Bring a finished job's result to where it was ordered, and take its preview away. Returns whether it came; `state` says why not.

    What waits is brought in any case; anything else, when the user has the operator repeated, only if it is not there.
    """
    is_repeated = _waiting.pop(job_id, None) is None
    job = _ended.pop(job_id, None) or session.manager().get(job_id)
    scene = home_scene(read_home(job.path)) if job is not None else None
    if is_repeated and (job is None or scene is None or job.status is not JobStatus.FINISHED or object_of_job(job_id, scene) is not None):
        return False
    try:
        if job is None or scene is None:  # the job was discarded, or another file was opened
            return False
        bring(job, scene)
    except Exception as error:  # nobody is there to see it raised
        _problems[job_id] = str(error) if isinstance(error, CoGradError) else f"It could not be imported: {error}"
        _log.warning("%s was not imported", job_id, exc_info=error)
        return False
    finally:
        preview.remove(job_id)  # before the undo step, which is to take back the import alone
    return True


def _find_left() -> None:
    """Have results wait on that waited before the add-on was reloaded, once their jobs are found again."""
    for job_id in list(_left):
        job = session.manager().get(job_id)
        if job is not None:
            _left.discard(job_id)
            _wait_for(job)
    if not _left:
        session.unsubscribe_tick(_find_left)


def register() -> None:
    """Follow all jobs; before `preview`, so that a preview stays until its result is there."""
    session.subscribe(on_event)
    pid, *left = json.loads(os.environ.pop(_LEFT, "[0]"))
    if pid == os.getpid():
        _left.update(left)
        session.subscribe_tick(_find_left)


def unregister() -> None:
    """Undo `register`."""
    if _waiting or _left:
        os.environ[_LEFT] = json.dumps([os.getpid(), *_waiting, *_left])
    session.unsubscribe(on_event)
    session.unsubscribe_tick(_find_left)
    session.unregister_poller(tick)
    _left.clear()
    _waiting.clear()
    _ended.clear()
    _problems.clear()
