"""Errors and notices in the panel, with a button for every remedy that has one."""

import bpy

from ...backend.errors import CoGradError
from ...backend.protocol import Failure, Notice
from ..jobs import Job
from ..settings.remedies import actions, panel_actions
from .text import draw_paragraph


def draw_failure(layout: bpy.types.UILayout, context: bpy.types.Context, job: Job, failure: Failure) -> None:
    """What went wrong with a job, what to do, and the buttons that do it."""
    box = layout.box()
    draw_paragraph(box, context, failure.message, icon="ERROR")
    if failure.remedy:
        draw_paragraph(box, context, failure.remedy, icon="BLANK1")
    column = box.column(align=True)
    has_log = job.folder.log_path.exists()
    for action in actions(failure.code, job.spec.quality, is_resumable=job.is_resumable, has_log=has_log):
        button = column.operator(action.operator, text=action.label, icon=action.icon)
        if action.needs_job:
            button.job = job.id


def draw_refusal(layout: bpy.types.UILayout, context: bpy.types.Context, error: CoGradError) -> None:
    """Why what the panel says was not ordered, what to do, and the buttons that do it."""
    box = layout.box()
    draw_paragraph(box, context, error.message, icon="ERROR")
    if error.remedy:
        draw_paragraph(box, context, error.remedy, icon="BLANK1")
    for action in panel_actions(error.code, context.scene.cograd3d.quality):
        box.operator(action.operator, text=action.label, icon=action.icon)


def draw_notice(layout: bpy.types.UILayout, context: bpy.types.Context, notice: Notice) -> None:
    """Something the user should know while all goes on."""
    draw_paragraph(layout, context, f"{notice.message} {notice.remedy}".strip(), icon="INFO")
