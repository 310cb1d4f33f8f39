"""What can be done with a job besides steering it: look at it, order it again, throw it away."""

import random

import bpy

from ...backend.errors import ConfigError
from .. import session
from ..importing.results import restore_textures
from ..jobs import Job
from ..package import ROOT_PACKAGE
from ..settings.choices import choices_of, lower_quality
from ..shape_file import remove_unused, starts_of
from . import ordering
from .job_operator import JobOperator

_STILL_RUNNING = "It is still running: cancel it first"
_DAMAGED = "Its folder is damaged"


def discard(job: Job) -> None:
    """Delete a job's folder; textures in the scene get a file elsewhere. Raises `CoGradError`."""
    session.manager().discard(job)
    restore_textures(job.id)


def discard_shapes() -> None:
    """Delete the shapes that jobs began with which are no more."""
    manager = session.manager()
    manager.scan()  # others may be there by now, and at first not all are known
    if not any(other.is_damaged for other in manager.jobs):  # nobody knows what those start from
        remove_unused(manager.root, set().union(*(starts_of(other.spec, other.config) for other in manager.jobs)))


class COGRAD3D_OT_discard_job(JobOperator, bpy.types.Operator):
    """Delete the job's folder with its result, previews and saved state. What was imported into a scene stays"""

    bl_idname = "cograd3d.discard_job"
    bl_label = "Discard"
    bl_options = {"INTERNAL"}

    @classmethod
    def why_not(cls, job: Job) -> str:
        if job.status.is_live:
            return _STILL_RUNNING
        other = session.manager().needed_by(job)
        return f"{other.id} begins with its result: let that one save a first state, or discard it first" if other is not None else ""

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        selected = session.selected_job()
        self.job = self.job or (selected.id if selected is not None else "")  # another may be shown by the time of the answer
        message = "Its folder is deleted from the disk. This cannot be undone."
        return context.window_manager.invoke_confirm(
            self, event, title="Discard this job?", message=message, confirm_text="Discard", icon="WARNING"
        )

    def act(self, context: bpy.types.Context, job: Job) -> None:
        discard(job)
        discard_shapes()


class COGRAD3D_OT_open_job_folder(JobOperator, bpy.types.Operator):
    """Show the job's folder in the system's file browser: the mesh, the splats, the previews and the records of the run"""

    bl_idname = "cograd3d.open_job_folder"
    bl_label = "Open Folder"
    bl_options = {"INTERNAL"}

    @classmethod
    def why_not(cls, job: Job) -> str:
        return "" if job.path.is_dir() else "Its folder was deleted: discard the job"

    def act(self, context: bpy.types.Context, job: Job) -> None:
        bpy.ops.wm.path_open(filepath=str(job.path))


class COGRAD3D_OT_open_log(JobOperator, bpy.types.Operator):
    """Open what the generator wrote down while it ran"""

    bl_idname = "cograd3d.open_log"
    bl_label = "Open Log"
    bl_options = {"INTERNAL"}

    @classmethod
    def why_not(cls, job: Job) -> str:
        return "" if job.folder.log_path.exists() else "It has no log: it has not begun"

    def act(self, context: bpy.types.Context, job: Job) -> None:
        bpy.ops.wm.path_open(filepath=str(job.folder.log_path))


class COGRAD3D_OT_copy_settings(JobOperator, bpy.types.Operator):
    """Write the job's prompt, seed and settings into the panel, to change and order them again"""

    bl_idname = "cograd3d.copy_settings"
    bl_label = "Copy to Panel"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def why_not(cls, job: Job) -> str:
        return _DAMAGED if job.is_damaged else ""

    def act(self, context: bpy.types.Context, job: Job) -> None:
        if lost := context.scene.cograd3d.take(choices_of(job.spec, job.config)):
            self.report({"WARNING"}, lost)


class COGRAD3D_OT_reproduce(JobOperator, bpy.types.Operator):
    """Order exactly the same once more: same prompt, seed and settings"""

    bl_idname = "cograd3d.reproduce"
    bl_label = "Run Again"
    bl_options = {"REGISTER"}

    @classmethod
    def why_not(cls, job: Job) -> str:
        return _DAMAGED if job.is_damaged else ""

    def act(self, context: bpy.types.Context, job: Job) -> None:
        ordering.order_again(context, job)


class COGRAD3D_OT_retry_lower(JobOperator, bpy.types.Operator):
    """Order the same at the next lower quality, which needs less time and memory"""

    bl_idname = "cograd3d.retry_lower"
    bl_label = "Try Again at Lower Quality"
    bl_options = {"REGISTER"}

    @classmethod
    def why_not(cls, job: Job) -> str:
        if job.is_damaged:
            return _DAMAGED
        return "" if lower_quality(job.spec.quality) else "There is no lower quality than draft"

    def act(self, context: bpy.types.Context, job: Job) -> None:
        quality = lower_quality(job.spec.quality)
        if quality is None:
            raise ConfigError("There is no lower quality than draft.", remedy="Lower the iterations in the advanced settings.")
        ordering.order_at(context, job, quality)


class COGRAD3D_OT_retry_seed(JobOperator, bpy.types.Operator):
    """Order the same with another seed, which leads to another result"""

    bl_idname = "cograd3d.retry_seed"
    bl_label = "Try Another Seed"
    bl_options = {"REGISTER"}

    @classmethod
    def why_not(cls, job: Job) -> str:
        return _DAMAGED if job.is_damaged else ""

    def act(self, context: bpy.types.Context, job: Job) -> None:
        ordering.order_again(context, job, {"run.seed": random.randrange(1_000_000)})


class COGRAD3D_OT_show_running(bpy.types.Operator):
    """Show the job that is running now"""

    bl_idname = "cograd3d.show_running"
    bl_label = "Show the Running Job"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not session.manager().running:
            cls.poll_message_set("No job is running")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        session.select_job(session.manager().running[-1].id)
        session.redraw()
        return {"FINISHED"}


class COGRAD3D_OT_show_environment(bpy.types.Operator):
    """Open the preferences of CoGrad3D: its Python environment, where jobs are kept, colours"""

    bl_idname = "cograd3d.show_environment"
    bl_label = "CoGrad3D's Preferences"
    bl_options = {"INTERNAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        bpy.ops.preferences.addon_show(module=ROOT_PACKAGE)
        return {"FINISHED"}


CLASSES = (
    COGRAD3D_OT_discard_job,
    COGRAD3D_OT_open_job_folder,
    COGRAD3D_OT_open_log,
    COGRAD3D_OT_copy_settings,
    COGRAD3D_OT_reproduce,
    COGRAD3D_OT_retry_lower,
    COGRAD3D_OT_retry_seed,
    COGRAD3D_OT_show_running,
    COGRAD3D_OT_show_environment,
)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
