"""The panel of the active object, if CoGrad3D made it: what it was made from, and what can be done with it."""

import datetime

import bpy

from .. import session
from ..importing import metadata
from ..importing.results import is_result
from ..jobs import JobStatus
from .text import draw_paragraph

_FACTS = (
    ("seed", "Seed"),
    ("quality", "Quality"),
    ("prior", "Image Model"),
    ("prior_fingerprint", "Its Weights"),
    ("version", "CoGrad3D"),
)


class COGRAD3D_PT_result(bpy.types.Panel):
    """What the active object was made from, and what can be done with it"""

    bl_idname = "COGRAD3D_PT_result"
    bl_label = "This Object"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "CoGrad3D"
    bl_order = 60

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return is_result(context.active_object)

    def draw(self, context: bpy.types.Context) -> None:
        layout, data = self.layout, context.active_object[metadata.KEY]
        draw_paragraph(layout, context, str(data.get("prompt", "")), icon="FILE_TEXT")
        if data.get("negative_prompt"):
            draw_paragraph(layout, context, f"Avoid: {data['negative_prompt']}")
        column = layout.column(align=True)
        for key, label in _FACTS:
            _draw_fact(column, label, str(data.get(key, "")))
        _draw_fact(column, "Made", _when(str(data.get("created", ""))))
        row = layout.row(align=True)
        row.operator("cograd3d.copy_object_settings", icon="COPYDOWN")
        row.operator("cograd3d.reproduce_object", icon="FILE_REFRESH")
        layout.operator("cograd3d.show_views", icon="VIEW_CAMERA_UNSELECTED")
        job = session.selected_job()
        if job is not None and job.status is JobStatus.FINISHED and job.id != data.get("job"):
            layout.operator("cograd3d.import_onto", icon="IMPORT")
        row = layout.row(align=True)
        row.operator("cograd3d.mark_asset", icon="ASSET_MANAGER")
        row.menu("COGRAD3D_MT_export", icon="EXPORT")


def _draw_fact(layout: bpy.types.UILayout, label: str, value: str) -> None:
    if value:
        split = layout.split(factor=0.35)
        split.alignment = "RIGHT"
        split.label(text=label)
        split.label(text=value)


def _when(created: str) -> str:
    """A moment as the user's clock has it."""
    try:
        return datetime.datetime.fromisoformat(created).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return created


def register() -> None:
    """Add the panel."""
    bpy.utils.register_class(COGRAD3D_PT_result)


def unregister() -> None:
    """Undo `register`."""
    bpy.utils.unregister_class(COGRAD3D_PT_result)
