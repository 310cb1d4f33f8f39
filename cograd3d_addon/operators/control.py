"""Steering a job: pause, continue, finish now, cancel."""

import bpy

from .. import session
from ..jobs import Job, JobStatus
from ..jobs.job import Wish
from .job_operator import JobOperator
from .ordering import take_up

_NOT_RUNNING = "This job is not running"


class COGRAD3D_OT_pause(JobOperator, bpy.types.Operator):
    """Have the job stand still after the step it is at; it keeps its memory, and Continue goes on at once"""

    bl_idname = "cograd3d.pause"
    bl_label = "Pause"
    bl_options = {"INTERNAL"}

    @classmethod
    def why_not(cls, job: Job) -> str:
        if job.status is JobStatus.PAUSED or job.wish is Wish.PAUSE:
            return "It is paused already"
        if job.status is JobStatus.RUNNING and not job.can_pause:
            return "It is nearly done: this part cannot be paused"
        return "" if job.status is JobStatus.RUNNING else _NOT_RUNNING

    def act(self, context: bpy.types.Context, job: Job) -> None:
        session.manager().pause(job)


class COGRAD3D_OT_resume(JobOperator, bpy.types.Operator):
    """Go on with a job that is paused, or that ended without a result: from where it saved its state last"""

    bl_idname = "cograd3d.resume"
    bl_label = "Continue"
    bl_options = {"INTERNAL"}

    @classmethod
    def why_not(cls, job: Job) -> str:
        if job.status is JobStatus.FINISHED:
            return "It is finished"
        return "" if job.is_resumable or job.status is JobStatus.PAUSED else "It runs or waits already, or is damaged"

    def act(self, context: bpy.types.Context, job: Job) -> None:
        take_up(job)


class COGRAD3D_OT_stop(JobOperator, bpy.types.Operator):
    """Shape no further: make the mesh and its texture of what is there now"""

    bl_idname = "cograd3d.stop"
    bl_label = "Stop and Mesh Now"
    bl_options = {"INTERNAL"}

    @classmethod
    def why_not(cls, job: Job) -> str:
        if job.status not in (JobStatus.RUNNING, JobStatus.PAUSED):
            return "It is being ended already" if job.status is JobStatus.STOPPING else _NOT_RUNNING
        return "" if job.phase == "optimise" else "Only while it is shaping"

    def act(self, context: bpy.types.Context, job: Job) -> None:
        session.manager().stop(job)


class COGRAD3D_OT_cancel(JobOperator, bpy.types.Operator):
    """End the job without a mesh. It saves its state first, and can be continued later; a second press ends one that does not obey"""

    bl_idname = "cograd3d.cancel"
    bl_label = "Cancel"
    bl_options = {"INTERNAL"}

    @classmethod
    def why_not(cls, job: Job) -> str:
        return "It has ended already" if job.status.is_over else ""

    def act(self, context: bpy.types.Context, job: Job) -> None:
        session.manager().cancel(job)


CLASSES = (COGRAD3D_OT_pause, COGRAD3D_OT_resume, COGRAD3D_OT_stop, COGRAD3D_OT_cancel)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
