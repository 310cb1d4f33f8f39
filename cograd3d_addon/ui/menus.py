"""The small menus of the panel: earlier prompts, words that can be asked for, presets, what else can be done with a job."""

import bpy
from bl_ui.utils import PresetPanel

from ..operators import ordering
from ..operators.presets import SUBFOLDER
from ..settings import wording, words
from ..settings.models import chosen, menu, shelf


class COGRAD3D_MT_prompts(bpy.types.Menu):
    """Prompts used before, the latest first"""

    bl_idname = "COGRAD3D_MT_prompts"
    bl_label = "Earlier Prompts"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        prompts = ordering.prompt_history().prompts
        if not prompts:
            layout.label(text="None yet")
            return
        for prompt in prompts:
            layout.operator("cograd3d.use_prompt", text=wording.shortened(prompt, 60), translate=False).prompt = prompt
        layout.separator()
        layout.operator("cograd3d.clear_prompts", icon="TRASH")


class COGRAD3D_MT_words(bpy.types.Menu):
    """What the built-in image model can be asked for"""

    bl_idname = "COGRAD3D_MT_words"
    bl_label = "What Can I Ask For?"

    def draw(self, context: bpy.types.Context) -> None:
        row = self.layout.row()
        for heading, known in words.MENU:
            for start in range(0, len(known), 12):
                column = row.column()
                column.label(text=heading if start == 0 else "")
                column.separator()
                for word in known[start : start + 12]:
                    column.operator("cograd3d.use_word", text=word, translate=False).word = word


class COGRAD3D_MT_models(bpy.types.Menu):
    """The image models that can be used: built in, found on this computer, worth having, and your own"""

    bl_idname = "COGRAD3D_MT_models"
    bl_label = "Image Model"

    def draw(self, context: bpy.types.Context) -> None:
        layout, found = self.layout, shelf.found
        current = chosen(context.scene.cograd3d.choices(), found)
        for heading, entries in menu(found):
            layout.label(text=heading)
            for entry in entries:
                icon = "CHECKMARK" if entry == current else "SOLO_ON" if entry.is_recommended else "BLANK1"
                text = f"{entry.title}  (for this computer)" if entry.is_recommended else entry.title
                button = layout.operator("cograd3d.choose_model", text=wording.shortened(text, 50), icon=icon, translate=False)
                button.source, button.value = entry.source, entry.value
            layout.separator()
        layout.operator("cograd3d.model_folder_add", text="Look in a Folder...", icon="FILE_FOLDER")
        layout.operator("cograd3d.models_refresh", icon="FILE_REFRESH")


class COGRAD3D_MT_job(bpy.types.Menu):
    """What else can be done with the selected job"""

    bl_idname = "COGRAD3D_MT_job"
    bl_label = "Job"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.operator("cograd3d.copy_settings", icon="PASTEDOWN")
        layout.operator("cograd3d.reproduce", icon="FILE_REFRESH")
        layout.operator("cograd3d.retry_seed", icon="MOD_NOISE")
        layout.operator("cograd3d.retry_lower", icon="TRIA_DOWN")
        layout.separator()
        layout.operator("cograd3d.open_job_folder", icon="FILE_FOLDER")
        layout.operator("cograd3d.open_log", icon="TEXT")
        layout.separator()
        layout.operator("cograd3d.discard_job", icon="TRASH")


class COGRAD3D_PT_presets(PresetPanel, bpy.types.Panel):
    """Named sets of quality, image model and changed settings"""

    bl_label = "CoGrad3D Presets"
    preset_subdir = SUBFOLDER
    preset_operator = "script.execute_preset"
    preset_add_operator = "cograd3d.preset_add"


CLASSES = (COGRAD3D_MT_prompts, COGRAD3D_MT_words, COGRAD3D_MT_models, COGRAD3D_MT_job, COGRAD3D_PT_presets)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
