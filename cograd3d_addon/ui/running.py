"""The panel of the job that is shown: how far it is, what it looks like, what can be done."""

import bpy

from .. import importing, session
from ..jobs import Job, JobStatus
from ..jobs.job import Wish
from ..settings import wording
from ..settings.choices import one_line
from . import icons
from .errors import draw_failure, draw_notice
from .main import CATEGORY
from .text import draw_paragraph

NOTICES_SHOWN = 3
_PROMPT_LETTERS = 120
_SMALLEST_PICTURE, _LARGEST_PICTURE = 5.0, 10.0
_WAITS = {
    Wish.PAUSE: "Pausing after this step...",
    Wish.UNPAUSE: "Going on...",
    Wish.STOP: "Finishing: the mesh comes next...",
    Wish.CANCEL: "Ending: saving its state...",
}


class COGRAD3D_PT_running(bpy.types.Panel):
    """How far the shown job is, and how to steer it"""

    bl_idname = "COGRAD3D_PT_running"
    bl_label = "Job"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = CATEGORY
    bl_parent_id = "COGRAD3D_PT_main"
    bl_order = 0  # right below Generate, before all settings

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return session.selected_job() is not None

    def draw_header_preset(self, context: bpy.types.Context) -> None:
        job = session.selected_job()
        if job is not None:
            self.layout.label(text=str(job.status).capitalize())

    def draw(self, context: bpy.types.Context) -> None:
        layout, job = self.layout, session.selected_job()
        if job is None:
            return
        if session.manager().running and not job.status.is_live:
            layout.operator("cograd3d.show_running", icon="TIME")
        if job.status.is_over or job.spec.prompt != one_line(context.scene.cograd3d.prompt):  # else it stands right above
            draw_paragraph(layout, context, wording.shortened(job.spec.prompt, _PROMPT_LETTERS))
        if not job.status.is_over:
            _draw_progress(layout, context, job)
        _draw_buttons(layout, job)
        if job.error is not None:
            draw_failure(layout, context, job, job.error)
        if state := importing.state(job):
            draw_paragraph(layout, context, state, icon="INFO")
        _draw_picture(layout, context, job)
        if job.status.is_live:
            _draw_numbers(layout, job)
        for notice in job.notices[-NOTICES_SHOWN:]:
            draw_notice(layout, context, notice)


def _draw_progress(layout: bpy.types.UILayout, context: bpy.types.Context, job: Job) -> None:
    if job.status is JobStatus.QUEUED:
        if job.waits_elsewhere:
            layout.label(text="Waits in another Blender", icon="SORTTIME")
            return
        waiting = session.manager().queued
        ahead = waiting.index(job) if job in waiting else 0
        layout.label(text="Waits for the running job" if not ahead else f"Waits for {ahead + 1} jobs", icon="SORTTIME")
        return
    if not job.phase:
        layout.progress(factor=0.0, text="Starting...")
    else:
        column = layout.column(align=True)
        progress = job.progress if job.progress is not None and job.progress.phase == job.phase else None
        bar = column.column()
        bar.scale_y = 1.2
        bar.progress(factor=wording.progress_fraction(progress), text=wording.progress_text(progress, job.phase))
        if job.phase_message:
            draw_paragraph(column, context, job.phase_message)
    if job.wish in _WAITS:
        layout.label(text=_WAITS[job.wish], icon="SORTTIME")


def _draw_picture(layout: bpy.types.UILayout, context: bpy.types.Context, job: Job) -> None:
    version = job.preview.iteration if job.preview is not None else 0
    picture = icons.icon(job.folder.preview_image_path, version, part="pairs") if version or job.status.is_over else 0
    if picture:
        row = layout.row()
        row.alignment = "CENTER"
        row.template_icon(icon_value=picture, scale=_picture_units(context))


def _picture_units(context: bpy.types.Context) -> float:
    """How large the picture is, in heights of a button: as wide as the panel, and so low that what is above and below it stays in sight."""
    if context.region is None:
        return _LARGEST_PICTURE
    unit = 20 * (context.preferences.system.ui_scale or 1.0)
    return min(_LARGEST_PICTURE, max(_SMALLEST_PICTURE, min(context.region.width / unit - 3, context.region.height / unit / 3)))


def _draw_numbers(layout: bpy.types.UILayout, job: Job) -> None:
    progress = job.progress
    if progress is None or progress.phase != job.phase:
        return
    grid = layout.grid_flow(row_major=True, columns=2, even_columns=True, even_rows=True, align=True)
    for label, value in wording.progress_details(progress):
        grid.label(text=f"{label}  {value}")


def _draw_buttons(layout: bpy.types.UILayout, job: Job) -> None:
    if job.status.is_live:
        column = layout.column(align=True)
        row = column.row(align=True)
        if job.status is JobStatus.PAUSED:
            row.operator("cograd3d.resume", icon="PLAY")
        else:
            row.operator("cograd3d.pause", icon="PAUSE")
        row.operator("cograd3d.cancel", icon="X")
        column.operator("cograd3d.stop", icon="CHECKMARK")
    elif job.status is JobStatus.QUEUED:
        layout.operator("cograd3d.cancel", icon="X")
    elif job.status is JobStatus.FINISHED:
        column = layout.column()
        column.scale_y = 1.3
        column.operator("cograd3d.import_result", icon="IMPORT").job = job.id
    elif job.is_resumable and job.error is None:
        layout.operator("cograd3d.resume", icon="PLAY", text=f"Continue from Step {job.checkpoint}" if job.checkpoint else "Continue")


CLASSES = (COGRAD3D_PT_running,)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
