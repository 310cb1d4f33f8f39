"""The folders and files that live outside Blender: show them, remove all jobs."""

import shutil

import bpy
from bpy.props import EnumProperty

from ...backend.environment import cache_folder, cache_parts
from ...backend.errors import CoGradError
from .. import session
from ..jobs import Job
from ..package import preferences
from ..setup import disk_usage, supervisor
from .jobs import discard, discard_shapes


class COGRAD3D_OT_environment_open_log(bpy.types.Operator):
    """Open the file that says what was installed and what went wrong"""

    bl_idname = "cograd3d.environment_open_log"
    bl_label = "Open the Log"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if supervisor.situation.log is None:
            cls.poll_message_set("Nothing was installed or tried out yet")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        bpy.ops.wm.path_open(filepath=str(supervisor.situation.log))
        return {"FINISHED"}


class COGRAD3D_OT_open_folder(bpy.types.Operator):
    """Show this folder in the system's file browser"""

    bl_idname = "cograd3d.open_folder"
    bl_label = "Open Folder"

    which: EnumProperty(
        name="Which",
        description="The folder to show",
        items=(
            ("ENVIRONMENT", "Environment", "The Python packages of the generator"),
            ("JOBS", "Jobs", "Running and finished jobs"),
            ("CACHE", "Cache", "What can be made or downloaded again"),
        ),
    )

    def execute(self, context: bpy.types.Context) -> set[str]:
        if self.which == "ENVIRONMENT":
            folder = supervisor.environment.root
        else:
            folder = preferences(context).jobs_path() if self.which == "JOBS" else cache_folder()
        if not folder.is_dir():
            self.report({"WARNING"}, f"{folder} does not exist yet.")
            return {"CANCELLED"}
        bpy.ops.wm.path_open(filepath=str(folder))
        return {"FINISHED"}


class COGRAD3D_OT_jobs_remove_all(bpy.types.Operator):
    """Delete the folders of all jobs that are not running: their results, previews and saved states. What is in the scene stays"""

    bl_idname = "cograd3d.jobs_remove_all"
    bl_label = "Remove All Jobs"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not _removable():
            cls.poll_message_set("There is no job to remove: one that is running has to be cancelled first")
            return False
        return True

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        count = len(_removable())
        message = f"{count} job(s) and their files in {preferences(context).jobs_path()} are deleted. This cannot be undone."
        return context.window_manager.invoke_confirm(
            self, event, title="Remove all jobs?", message=message, confirm_text="Remove", icon="WARNING"
        )

    def execute(self, context: bpy.types.Context) -> set[str]:
        errors = _discard_all(_removable())
        disk_usage.outdated()
        if errors:
            others = f" So it is with {len(errors) - 1} more." if len(errors) > 1 else ""
            self.report({"ERROR"}, f"{errors[0]}{others}")
            return {"CANCELLED"}
        return {"FINISHED"}


def _discard_all(jobs: list[Job]) -> list[CoGradError]:
    """Discard jobs, each after those that begin with its result, in whatever order they stand. Returns why some are left."""
    errors: list[CoGradError] = []
    while jobs:
        due = [job for job in jobs if session.manager().needed_by(job) is None] or jobs
        for job in due:
            try:
                discard(job)
            except CoGradError as error:
                errors.append(error)
        jobs = [job for job in jobs if job not in due]
    discard_shapes()
    return errors


def _removable() -> list[Job]:
    session.look_for_jobs()
    return [job for job in session.manager().jobs if not (job.status.is_live or job.waits_elsewhere)]


class COGRAD3D_OT_cache_remove(bpy.types.Operator):
    """Delete what can be made again: the built-in image model's pictures and compiled code. The next job takes a minute longer"""

    bl_idname = "cograd3d.cache_remove"
    bl_label = "Remove the Cache"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if session.manager().running or supervisor.situation.phase.is_busy:
            cls.poll_message_set("It is being used: wait until nothing is running")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        for part in cache_parts():
            shutil.rmtree(part, ignore_errors=True)
        disk_usage.outdated()
        left = [part for part in cache_parts() if part.exists()]
        if left:
            self.report({"ERROR"}, f"{left[0]} could not be removed. End the programs that use it, then try again.")
            return {"CANCELLED"}
        return {"FINISHED"}


class COGRAD3D_OT_allow_online_access(bpy.types.Operator):
    """Open Preferences > System, where "Allow Online Access" is; CoGrad3D downloads nothing without it"""

    bl_idname = "cograd3d.allow_online_access"
    bl_label = "Allow Online Access"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if bpy.app.online_access_override and not bpy.app.online_access:
            cls.poll_message_set("Blender was started with --offline-mode: start it without that")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        bpy.ops.screen.userpref_show(section="SYSTEM")
        return {"FINISHED"}


CLASSES = (
    COGRAD3D_OT_environment_open_log,
    COGRAD3D_OT_open_folder,
    COGRAD3D_OT_jobs_remove_all,
    COGRAD3D_OT_cache_remove,
    COGRAD3D_OT_allow_online_access,
)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
