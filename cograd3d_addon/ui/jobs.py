"""The list of all jobs, and what can be done with the selected one."""

import bpy

from .. import session
from ..jobs import Job, JobStatus
from ..settings import wording
from . import icons
from .main import CATEGORY

STATUS_ICONS = {
    JobStatus.QUEUED: "SORTTIME",
    JobStatus.STARTING: "TIME",
    JobStatus.RUNNING: "PLAY",
    JobStatus.PAUSED: "PAUSE",
    JobStatus.STOPPING: "TIME",
    JobStatus.FINISHED: "CHECKMARK",
    JobStatus.CANCELLED: "X",
    JobStatus.INTERRUPTED: "RECOVER_LAST",
    JobStatus.FAILED: "ERROR",
}
_ROWS = 3


class COGRAD3D_UL_jobs(bpy.types.UIList):
    """All jobs, the newest first"""

    bl_idname = "COGRAD3D_UL_jobs"

    def draw_item(self, context, layout, data, item, icon, active_data, active_property, index=0, flag=0) -> None:
        job = session.manager().get(item.name)
        if job is None:
            return
        row = layout.row(align=True)
        picture = icons.icon(job.folder.preview_image_path, _version(job), part="first")
        if picture:
            row.label(text=job.spec.prompt, icon_value=picture, translate=False)
        else:
            row.label(text=job.spec.prompt, icon="IMAGE_DATA", translate=False)
        state = row.row(align=True)
        state.alignment = "RIGHT"
        state.active = not job.status.is_over
        state.label(text=_state(job), icon=STATUS_ICONS[job.status])

    def filter_items(self, context, data, property) -> tuple[list[int], list[int]]:
        wanted, text = data.job_filter, self.filter_name.casefold()
        jobs = {job.id: job for job in session.manager().jobs}
        flags = []
        for item in getattr(data, property):
            job = jobs.get(item.name)
            shown = job is not None and is_shown(job, wanted) and text in job.spec.prompt.casefold()
            flags.append(self.bitflag_filter_item if shown else 0)
        return flags, []

    def draw_filter(self, context, layout) -> None:
        row = layout.row(align=True)
        row.prop(self, "filter_name", text="", icon="VIEWZOOM")
        row.prop(context.window_manager.cograd3d, "job_filter", text="")


def is_shown(job: Job, wanted: str) -> bool:
    """Whether a job belongs to the kind that is asked for, an identifier of `CoGradInterface.job_filter`."""
    if wanted == "ACTIVE":
        return not job.status.is_over
    if wanted == "FINISHED":
        return job.status is JobStatus.FINISHED
    return wanted == "ALL" or (job.status.is_over and job.status is not JobStatus.FINISHED)


def _version(job: Job) -> int:
    """Changes when the picture of a job does. Ended jobs get a number of their own: their last preview is written at the end."""
    return -2 if job.status.is_over else job.preview.iteration if job.preview is not None else 0


def _state(job: Job) -> str:
    """How far a running job is, `35%`, else how old one is: `3 h`. The icon beside it says the rest."""
    if job.status.is_live and job.phase == "optimise" and job.progress is not None:
        return f"{wording.progress_fraction(job.progress):.0%}"
    return wording.age(job.created)


class COGRAD3D_PT_jobs(bpy.types.Panel):
    """All jobs: running, waiting and done"""

    bl_idname = "COGRAD3D_PT_jobs"
    bl_label = "Jobs"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = CATEGORY
    bl_order = 2

    def draw_header_preset(self, context: bpy.types.Context) -> None:
        jobs = session.manager().jobs
        if jobs:
            self.layout.label(text=str(len(jobs)))

    def draw(self, context: bpy.types.Context) -> None:
        layout, interface = self.layout, context.window_manager.cograd3d
        if not interface.jobs:
            layout.label(text="None yet", icon="INFO")
            return
        row = layout.row()
        row.template_list("COGRAD3D_UL_jobs", "", interface, "jobs", interface, "active_job", rows=_ROWS, maxrows=6)
        tools = row.column(align=True)
        tools.operator("cograd3d.import_result", text="", icon="IMPORT")
        tools.operator("cograd3d.resume", text="", icon="PLAY")
        tools.operator("cograd3d.open_job_folder", text="", icon="FILE_FOLDER")
        tools.operator("cograd3d.discard_job", text="", icon="TRASH")
        tools.separator()
        tools.menu("COGRAD3D_MT_job", text="", icon="DOWNARROW_HLT")
        job = session.selected_job()
        if job is not None and job.status.is_over:
            row = layout.row(align=True)
            row.operator("cograd3d.copy_settings", icon="PASTEDOWN")
            row.operator("cograd3d.reproduce", icon="FILE_REFRESH")


def sync() -> None:
    """Make the window manager's list what `session` holds, and show a job if none is shown."""
    manager = session.manager()
    if session.selected_job() is None and manager.jobs:
        session.select_job((manager.running or manager.jobs)[0].id, by_user=False)
    selected = session.selected_job()
    interface = bpy.context.window_manager.cograd3d
    names = [job.id for job in manager.jobs]
    if [item.name for item in interface.jobs] != names:
        interface.jobs.clear()
        for name in names:
            interface.jobs.add().name = name
    index = names.index(selected.id) if selected is not None else -1
    if interface.active_job != index:
        interface.active_job = index


CLASSES = (COGRAD3D_UL_jobs, COGRAD3D_PT_jobs)


def register() -> None:
    """Register the list and follow the jobs."""
    for kind in CLASSES:
        bpy.utils.register_class(kind)
    session.subscribe_tick(sync)


def unregister() -> None:
    """Undo `register`."""
    session.unsubscribe_tick(sync)
    for kind in reversed(CLASSES):
        bpy.utils.unregister_class(kind)
