"""Generate, and what helps to say what: words, earlier prompts, seeds, changed settings, image models."""

import random

import bpy
from bpy.props import StringProperty

from ...backend.errors import CoGradError
from .. import session
from ..settings import overrides, words
from ..settings.choices import lower_quality
from ..settings.controls import controls
from . import ordering


class COGRAD3D_OT_generate(bpy.types.Operator):
    """Make what the prompt says. Blender stays free to work in while it runs; without a window, it is there when this returns"""

    bl_idname = "cograd3d.generate"
    bl_label = "Generate"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        reason = ordering.why_not(context)
        if reason:
            cls.poll_message_set(reason)
        return not reason

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            job = ordering.order_panel(context)
        except CoGradError as error:
            ordering.remember_refusal(context, error)
            return ordering.report(self, error)
        self.report({"INFO"}, f"{'Ordered' if session.has_timer() else 'Done'}: {job.spec.prompt}")
        return {"FINISHED"}


class COGRAD3D_OT_lower_quality(bpy.types.Operator):
    """Choose the next lower quality, which needs less time and memory"""

    bl_idname = "cograd3d.lower_quality"
    bl_label = "Lower the Quality"
    bl_options = {"INTERNAL", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if lower_quality(context.scene.cograd3d.quality) is None:
            cls.poll_message_set("There is no lower quality than draft")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        chosen = context.scene.cograd3d
        chosen.quality = lower_quality(chosen.quality) or chosen.quality
        return {"FINISHED"}


class COGRAD3D_OT_roll_seed(bpy.types.Operator):
    """Choose a seed by chance"""

    bl_idname = "cograd3d.roll_seed"
    bl_label = "Another Seed"
    bl_options = {"INTERNAL", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        context.scene.cograd3d.seed = random.randrange(1_000_000)
        return {"FINISHED"}


class COGRAD3D_OT_replace_word(bpy.types.Operator):
    """Put a word that the built-in model knows in the place of one that it does not"""

    bl_idname = "cograd3d.replace_word"
    bl_label = "Use This Word"
    bl_options = {"INTERNAL", "UNDO"}

    word: StringProperty(name="Word", description="The word of the prompt")
    by: StringProperty(name="By", description="The word to put there")

    @classmethod
    def description(cls, context: bpy.types.Context, properties: bpy.types.OperatorProperties) -> str:
        return f"Write “{properties.by}” in place of “{properties.word}”"

    def execute(self, context: bpy.types.Context) -> set[str]:
        chosen = context.scene.cograd3d
        chosen.prompt = words.replaced(chosen.prompt, self.word, self.by)
        return {"FINISHED"}


class COGRAD3D_OT_use_word(bpy.types.Operator):
    """Ask for this: it takes the place of a word of its kind in the prompt, or is added to it"""

    bl_idname = "cograd3d.use_word"
    bl_label = "Ask for This"
    bl_options = {"INTERNAL", "UNDO"}

    word: StringProperty(name="Word", description="A word that the built-in model knows")

    def execute(self, context: bpy.types.Context) -> set[str]:
        chosen = context.scene.cograd3d
        chosen.prompt = words.with_word(chosen.prompt, self.word)
        return {"FINISHED"}


class COGRAD3D_OT_use_prompt(bpy.types.Operator):
    """Write this prompt into the panel again"""

    bl_idname = "cograd3d.use_prompt"
    bl_label = "Use This Prompt"
    bl_options = {"INTERNAL", "UNDO"}

    prompt: StringProperty(name="Prompt", description="What to write")

    @classmethod
    def description(cls, context: bpy.types.Context, properties: bpy.types.OperatorProperties) -> str:
        return properties.prompt

    def execute(self, context: bpy.types.Context) -> set[str]:
        context.scene.cograd3d.prompt = self.prompt
        return {"FINISHED"}


class COGRAD3D_OT_clear_prompts(bpy.types.Operator):
    """Forget the prompts used before. Jobs keep theirs"""

    bl_idname = "cograd3d.clear_prompts"
    bl_label = "Forget These Prompts"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not ordering.prompt_history().prompts:
            cls.poll_message_set("No prompt was used yet")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        ordering.prompt_history().clear()
        return {"FINISHED"}


class COGRAD3D_OT_choose_prior(bpy.types.Operator):
    """Choose which image model says what things look like"""

    bl_idname = "cograd3d.choose_prior"
    bl_label = "Choose an Image Model"
    bl_options = {"INTERNAL"}

    _WIDTH = 360

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_props_dialog(self, width=self._WIDTH)

    def draw(self, context: bpy.types.Context) -> None:
        from ..ui.main import draw_prior

        draw_prior(self.layout, context, width=self._WIDTH)

    def execute(self, context: bpy.types.Context) -> set[str]:
        return {"FINISHED"}


class COGRAD3D_OT_reset_setting(bpy.types.Operator):
    """Let the quality and the method decide this again"""

    bl_idname = "cograd3d.reset_setting"
    bl_label = "Reset"
    bl_options = {"INTERNAL", "UNDO"}

    setting: StringProperty(name="Setting", description="Its dotted name; a section's name for all of it; empty for all settings")

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not context.scene.cograd3d.overrides:
            cls.poll_message_set("No setting is changed")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        chosen = context.scene.cograd3d
        changed = overrides.read(chosen.overrides)
        for path in [path for path in changed if not self.setting or path == self.setting or path.startswith(f"{self.setting}.")]:
            del changed[path]
        chosen.overrides = overrides.write(changed)
        return {"FINISHED"}

    @classmethod
    def description(cls, context: bpy.types.Context, properties: bpy.types.OperatorProperties) -> str:
        if not properties.setting:
            return "Let the quality and the method decide all advanced settings again"
        control = controls().get(properties.setting)
        return f"Let the quality and the method decide {control.label if control else 'this section'} again"


CLASSES = (
    COGRAD3D_OT_generate,
    COGRAD3D_OT_lower_quality,
    COGRAD3D_OT_roll_seed,
    COGRAD3D_OT_replace_word,
    COGRAD3D_OT_use_word,
    COGRAD3D_OT_use_prompt,
    COGRAD3D_OT_clear_prompts,
    COGRAD3D_OT_choose_prior,
    COGRAD3D_OT_reset_setting,
)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
