"""How a run is ordered, whichever button asks for it: check, write what it starts from, submit, show."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ...backend import settings
from ...backend.config import GenerationConfig
from ...backend.environment import data_folder
from ...backend.errors import CoGradError, InputError, JobError, SetupError
from ...backend.protocol import JobSpec
from ...backend.request import check_request
from .. import later_files, narration, session, setup
from ..importing import order_for, state
from ..jobs import Job, JobStatus
from ..placement import PLACEMENT_FILE
from ..settings import consent, overrides, words
from ..settings.choices import Choices, refusal
from ..settings.history import PromptHistory
from ..shape_file import write_shape
from .environment import wait_for_environment


@functools.cache
def prompt_history() -> PromptHistory:
    """The prompts used last, kept where jobs are: an extension's own folder is deleted when it is uninstalled."""
    return PromptHistory(data_folder() / "prompts.json")


def shape_object(context: bpy.types.Context) -> bpy.types.Object | None:
    """The object that a run would start from: the active one, if it is selected and has a surface."""
    thing = context.active_object
    return thing if thing is not None and thing.type in {"MESH", "CURVE", "SURFACE", "META", "FONT"} and thing.select_get() else None


def why_not(context: bpy.types.Context) -> str:
    """Why Generate is grey, in a sentence without its full stop; empty if it is not. Cheap: panels ask at every redraw."""
    if not session.has_timer():
        later_files.look()
    wait_for_environment()  # a Python that was chosen is being tried out
    if problem := setup.problem():
        return problem[0].rstrip(".")
    if context.scene.library is not None:
        return _LINKED
    chosen = context.scene.cograd3d
    choices = chosen.choices()
    problems = overrides.problems(overrides.write(choices.all_changes()), chosen.quality, chosen.method)
    return refusal(
        choices,
        wants_object=chosen.initial_source == "SELECTED",
        has_object=shape_object(context) is not None,
        hint=words.hint(choices.prompt).message if choices.is_builtin else "",
        problem=next(iter(problems.values()), None),
    )


_LINKED = "This scene is linked from another file, so that no result can be put into it: go to a scene of this file"

_refusal: tuple[Choices, CoGradError] | None = None


def remember_refusal(context: bpy.types.Context, error: CoGradError) -> None:
    """What the panel says now cannot be ordered, for this reason."""
    global _refusal
    _refusal = context.scene.cograd3d.choices(), error


def refused(context: bpy.types.Context) -> CoGradError | None:
    """Why what the panel says could not be ordered when that was tried; None once it says something else, or was ordered."""
    return _refusal[1] if _refusal is not None and _refusal[0] == context.scene.cograd3d.choices() else None


def order_panel(context: bpy.types.Context) -> Job:
    """Order what the panel says.

    Raises:
        CoGradError: it cannot work, or cannot be written down.
    """
    chosen = context.scene.cograd3d
    choices = chosen.choices()
    initial = None
    if chosen.initial_source == "SELECTED":
        thing = shape_object(context)
        if thing is None:
            raise InputError("No object with a surface is selected.", remedy="Select the one to start from, or start from nothing.")
        initial = write_shape(session.manager().root, *surface_of(thing, context))
    spec, config = choices.request(initial)
    return order(context, spec, config)


def order(context: bpy.types.Context, spec: JobSpec, config: GenerationConfig, like: Path | None = None, improves: str = "") -> Job:
    """Check a request, submit it and show its job; without a window, see it through. Whether a model may be fetched is what the user says
    here, whatever the request does.

    Args:
        context: whose scene says where the result goes.
        spec, config: what is asked for.
        like: folder of an earlier job, whose place the result is to have.
        improves: name of the object that the result is to improve.

    Raises:
        CoGradError: it cannot work, or cannot be written down; without a window, it did not work.
    """
    global _refusal
    if problem := setup.problem():
        raise SetupError(problem[0], remedy=problem[1])
    if context.scene.library is not None:  # the preview could not come into it either
        raise InputError(f"{_LINKED}.")
    manager = session.manager()
    config.prior.allow_download = consent.is_allowed(config.prior.name)
    check_request(spec, config, manager.root)
    job = manager.submit(spec, config, extra={PLACEMENT_FILE: order_for(context.scene, like, improves)})
    prompt_history().add(spec.prompt)
    _refusal = None
    session.select_job(job.id)
    session.redraw()
    see_through(job)
    return job


def take_up(job: Job) -> None:
    """Go on with a job that is paused, or that ended without a result; without a window, see it through. Whether a model may be fetched is
    what the user says now, whatever was said when the job was ordered.

    Raises:
        CoGradError: it cannot go on; without a window, it did not work.
    """
    model = settings.from_dict(job.config).prior.name
    session.manager().resume(job, {"prior.allow_download": consent.is_allowed(model)})
    see_through(job)


def see_through(job: Job) -> None:
    """Without a window, have a job end before its operator does, as Blender's renders do there: nothing would run it afterwards.

    Raises:
        CoGradError: it ended without a result, or the result did not come into the scene that it was ordered from.
    """
    session.work_until(lambda: job.status.is_over, lambda: narration.of_job(job))
    if session.has_timer():
        return
    if job.error is not None:
        raise CoGradError(job.error.message, remedy=job.error.remedy)
    if job.status is not JobStatus.FINISHED:
        raise JobError(f"The job was {job.status}.", remedy=f'Continue it: bpy.ops.cograd3d.resume(job="{job.id}").')
    if problem := state(job):
        raise JobError(problem, remedy=f'Import it: bpy.ops.cograd3d.import_result(job="{job.id}").')


def order_again(context: bpy.types.Context, job: Job, changes: Mapping[str, Any] | None = None) -> Job:
    """Order what a job was asked for once more, with every setting as it was then, but for values by dotted name. A refinement refines the
    same result again.

    Raises:
        CoGradError: it cannot work, or the job's folder cannot be read.
    """
    config = settings.changed(settings.from_dict(job.config), changes or {})
    return order(context, _again(job.spec, overrides={**job.spec.overrides, **(changes or {})}), config)


def order_at(context: bpy.types.Context, job: Job, quality: str) -> Job:
    """Order what a job was asked for at another quality; of a refinement, what was asked for first.

    Raises:
        CoGradError: it cannot work.
    """
    spec = job.spec
    initial = str(spec.overrides.get("gaussians.initial", ""))
    config = settings.resolve(quality, spec.method, spec.settings_file or None, without=spec.without, overrides=spec.overrides)
    return order(context, _again(spec, quality=quality, initial=initial, refines=""), config)


def _again(spec: JobSpec, **changes: Any) -> JobSpec:
    """The same request; files that the first run wrote are not written again."""
    return dataclasses.replace(spec, outputs=(), overwrite=False, **changes)


def surface_of(thing: bpy.types.Object, context: bpy.types.Context) -> tuple[np.ndarray, np.ndarray]:
    """([N, 3] float32 vertices in the scene, [M, 3] int32 triangles) of an object as it is shown, modifiers applied."""
    evaluated = thing.evaluated_get(context.evaluated_depsgraph_get())
    mesh = evaluated.to_mesh()
    try:
        mesh.transform(thing.matrix_world)
        mesh.calc_loop_triangles()
        vertices = np.empty(len(mesh.vertices) * 3, np.float32)
        mesh.vertices.foreach_get("co", vertices)
        triangles = np.empty(len(mesh.loop_triangles) * 3, np.int32)
        mesh.loop_triangles.foreach_get("vertices", triangles)
    finally:
        evaluated.to_mesh_clear()
    return vertices.reshape(-1, 3), triangles.reshape(-1, 3)


def report(operator: bpy.types.Operator, error: CoGradError) -> set[str]:
    """Show an error of the backend; what an operator returns after one."""
    operator.report({"ERROR"}, str(error))
    return {"CANCELLED"}
