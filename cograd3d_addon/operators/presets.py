"""Presets of the panel in Blender's own preset system, in the user's scripts folder under `presets/cograd3d`."""

import bpy
from bl_operators.presets import AddPresetBase

SUBFOLDER = "cograd3d"


class COGRAD3D_OT_preset_add(AddPresetBase, bpy.types.Operator):
    """Keep the quality, the image model and all changed settings under a name, or forget a preset. Prompt and seed are not part of it"""

    bl_idname = "cograd3d.preset_add"
    bl_label = "Add or Remove a Preset"
    preset_menu = "COGRAD3D_PT_presets"
    preset_subdir = SUBFOLDER
    preset_values = tuple(
        f"bpy.context.scene.cograd3d.{name}"  # in full: names of one's own (`preset_defines`) fail in Blender 4.3 on Python 3.13
        for name in (
            "negative_prompt",
            "prior_source",
            "prior_path",
            "prior_file",
            "prior_hub",
            "quality",
            "method",
            "faces",
            "texture_size",
            "overrides",
        )
    )


def register() -> None:
    """Register the operator."""
    bpy.utils.register_class(COGRAD3D_OT_preset_add)


def unregister() -> None:
    """Undo `register`; presets stay."""
    bpy.utils.unregister_class(COGRAD3D_OT_preset_add)
