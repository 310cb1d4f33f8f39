"""CoGrad3D's Python environment in words and buttons: small in the side panel while it is not ready, whole in the preferences."""

import bpy

from ..operators import environment as operators
from ..package import ROOT_PACKAGE
from ..setup import Phase, Situation, supervisor
from .text import draw_paragraph

_ICONS = {
    Phase.READY: "CHECKMARK",
    Phase.ABSENT: "IMPORT",
    Phase.UNKNOWN: "QUESTION",
    Phase.INTERRUPTED: "PAUSE",
    Phase.OUTDATED: "FILE_REFRESH",
}


def draw_environment(layout: bpy.types.UILayout, context: bpy.types.Context) -> bool:
    """Where the environment is ready: nothing, and True. Else what is wrong, how far it is, and the one button to press next."""
    situation = supervisor.situation
    if situation.is_ready:
        return True
    box = layout.box()
    if situation.phase.is_busy:
        _draw_progress(box, context, situation)
        return False
    draw_paragraph(box, context, situation.message, icon=_ICONS.get(situation.phase, "ERROR"))
    _draw_next_step(box, context, situation, with_preferences=True)
    return False


def draw_environment_in_full(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Its state, all that can be done with it, and how what is being done goes."""
    situation = supervisor.situation
    if situation.phase.is_busy:
        _draw_progress(layout, context, situation)
    elif situation.is_ready and situation.phase is Phase.READY:
        draw_paragraph(layout, context, situation.describe(), icon="CHECKMARK")
        if situation.is_existing:
            draw_paragraph(layout, context, situation.message)
    else:
        draw_paragraph(layout, context, situation.message, icon=_ICONS.get(situation.phase, "ERROR"))
        _draw_next_step(layout, context, situation, with_preferences=False)
    row = layout.row(align=True)
    row.operator("cograd3d.environment_verify", icon="CHECKMARK")
    row.operator("cograd3d.environment_repair", icon="TOOL_SETTINGS")
    row.operator("cograd3d.environment_refresh", icon="FILE_REFRESH")
    row.operator("cograd3d.environment_open_log", icon="TEXT")


def _draw_progress(layout: bpy.types.UILayout, context: bpy.types.Context, situation: Situation) -> None:
    if situation.fraction is None:
        draw_paragraph(layout, context, situation.progress, icon="SORTTIME")
    else:
        layout.progress(factor=situation.fraction, text=f"{situation.progress}  {situation.fraction:.0%}")
    layout.operator("cograd3d.environment_cancel", icon="X")


def _draw_next_step(layout: bpy.types.UILayout, context: bpy.types.Context, situation: Situation, *, with_preferences: bool) -> None:
    """The remedy: in words where the main button does not say it, and as buttons."""
    column = layout.column()
    if situation.is_existing:
        draw_paragraph(column, context, situation.remedy)
        row = column.row(align=True)
        row.operator("cograd3d.environment_verify", icon="CHECKMARK")
        row.operator("cograd3d.environment_forget_python", icon="X")
        return
    if situation.phase in (Phase.FAILED, Phase.FOREIGN):
        draw_paragraph(column, context, situation.remedy)
    if operators.is_offline():
        draw_paragraph(column, context, "Blender may not use the network now. Allow it, or do without:", icon="INTERNET_OFFLINE")
        column.operator("cograd3d.allow_online_access", text="Allow Online Access...", icon="PREFERENCES")
        column.operator("cograd3d.environment_setup_offline", text="Install from a Folder of Wheels...", icon="FILE_FOLDER")
        column.operator("cograd3d.environment_choose_python", text="Use an Existing Python...", icon="CONSOLE")
        return
    label = operators.SET_UP_LABELS.get(situation.phase, "Set Up")
    main = column.column()
    main.scale_y = 1.4
    main.operator("cograd3d.environment_setup", text=f"{label}...", icon="IMPORT")
    if not with_preferences:
        return
    if situation.phase is Phase.FAILED:
        row = column.row(align=True)
        row.operator("cograd3d.environment_open_log", icon="TEXT")
        row.operator("preferences.addon_show", text="Preferences", icon="PREFERENCES").module = ROOT_PACKAGE
    else:
        column.operator("preferences.addon_show", text="Other Ways...", icon="PREFERENCES").module = ROOT_PACKAGE
