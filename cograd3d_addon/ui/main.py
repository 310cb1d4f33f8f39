"""The main panel: what to make, how well, and the button."""

import bpy

from ...backend.models import by_hub_id
from ...backend.preflight import LONGEST_PROMPT
from .. import later_files
from ..importing.placing import placeholder_of
from ..operators import ordering
from ..settings import models, overrides, wording, words
from ..settings.choices import BUILTIN_SOURCES
from ..settings.models import shelf
from .environment import draw_environment
from .errors import draw_refusal
from .menus import COGRAD3D_PT_presets
from .text import draw_paragraph

CATEGORY = "CoGrad3D"
PROMPT_LINES = 3
_EXAMPLE = "a striped orange cat"


class COGRAD3D_PT_main(bpy.types.Panel):
    """What to make, and the button that makes it"""

    bl_idname = "COGRAD3D_PT_main"
    bl_label = "Generate"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = CATEGORY
    bl_order = 0

    def draw_header_preset(self, context: bpy.types.Context) -> None:
        COGRAD3D_PT_presets.draw_panel_header(self.layout)

    def draw(self, context: bpy.types.Context) -> None:
        layout, chosen = self.layout, context.scene.cograd3d
        if text := later_files.notice():
            draw_paragraph(layout, context, text, icon="INFO")
        is_ready = draw_environment(layout, context)
        _draw_prompt(layout, context)
        if is_ready and (suggestion := models.suggestion(chosen.choices(), shelf.found)):
            draw_paragraph(layout, context, suggestion, icon="INFO")
            layout.menu("COGRAD3D_MT_models", text="Choose an Image Model", icon="IMAGE_DATA")
        layout.row(align=True).prop(chosen, "quality", expand=True)
        row = layout.row(align=True)
        row.prop(chosen, "seed")
        row.operator("cograd3d.roll_seed", text="", icon="FILE_REFRESH")
        button = layout.column()
        button.scale_y = 1.7
        button.operator("cograd3d.generate", icon="PLAY")
        if is_ready and chosen.prompt.strip() and not _hint(chosen).message and (reason := ordering.why_not(context)):
            draw_paragraph(layout, context, f"{reason}.", icon="INFO")
        elif (error := ordering.refused(context)) is not None:
            draw_refusal(layout, context, error)


class _SubPanel:
    """A folded part of the main panel, below the job that is shown."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = CATEGORY
    bl_parent_id = "COGRAD3D_PT_main"
    bl_order = 1
    bl_options = {"DEFAULT_CLOSED"}


class COGRAD3D_PT_result_options(_SubPanel, bpy.types.Panel):
    """How large the result is and where it goes"""

    bl_idname = "COGRAD3D_PT_result_options"
    bl_label = "Size and Place"

    def draw(self, context: bpy.types.Context) -> None:
        layout, chosen = self.layout, context.scene.cograd3d
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(chosen, "fit_object")
        height = layout.column()
        height.active = placeholder_of(context.scene) is None
        height.prop(chosen, "height")
        layout.prop(chosen, "import_when_done")
        values = overrides.presets_values(chosen.quality, chosen.method)
        column = layout.column(align=True)
        column.prop(chosen, "faces")
        if not chosen.faces:
            _note(column, f"0: up to {values['surface.faces']:,} at this quality")
        column = layout.column(align=True)
        column.prop(chosen, "texture_size")
        if chosen.texture_size == "0":
            _note(column, f"{values['texture.size']} px at this quality")


class COGRAD3D_PT_first_shape(_SubPanel, bpy.types.Panel):
    """What a run begins with"""

    bl_idname = "COGRAD3D_PT_first_shape"
    bl_label = "Start From"

    def draw_header_preset(self, context: bpy.types.Context) -> None:
        if context.scene.cograd3d.initial_source == "SELECTED" and (thing := ordering.shape_object(context)):
            self.layout.label(text=thing.name, icon="OUTLINER_OB_MESH", translate=False)

    def draw(self, context: bpy.types.Context) -> None:
        layout, chosen = self.layout, context.scene.cograd3d
        layout.row(align=True).prop(chosen, "initial_source", expand=True)
        if chosen.initial_source != "SELECTED":
            return
        thing = ordering.shape_object(context)
        if thing is None:
            draw_paragraph(layout, context, "Select the object to start from.", icon="INFO")
        else:
            layout.label(text=thing.name, icon="OUTLINER_OB_MESH", translate=False)
            draw_paragraph(layout, context, "As it stands now, modifiers included. Its front should face -Y.")


class COGRAD3D_PT_prior(_SubPanel, bpy.types.Panel):
    """The model that knows what things look like"""

    bl_idname = "COGRAD3D_PT_prior"
    bl_label = "Image Model"

    def draw_header_preset(self, context: bpy.types.Context) -> None:
        title = models.title_of(context.scene.cograd3d.choices(), shelf.found)
        self.layout.label(text=wording.shortened(title, 16), translate=False)

    def draw(self, context: bpy.types.Context) -> None:
        draw_prior(self.layout, context)


def draw_prior(layout: bpy.types.UILayout, context: bpy.types.Context, *, width: int = 0) -> None:
    """The choice of the image model, and what there is to say about it; also shown as a dialog of its own, which is so wide."""
    chosen, found = context.scene.cograd3d, shelf.found
    choices = chosen.choices()
    entry = models.chosen(choices, found)
    is_own = not choices.is_builtin and (entry is None or not entry.value)
    layout.menu("COGRAD3D_MT_models", text=wording.shortened(entry.title if entry else _OWN[choices.prior_source], 40), icon="IMAGE_DATA")
    if is_own:
        name = {"FOLDER": "prior_path", "FILE": "prior_file", "HUB": "prior_hub"}[choices.prior_source]
        layout.prop(chosen, name, text="", **({"placeholder": "owner/model"} if choices.prior_source == "HUB" else {}))
    elif entry is not None:
        draw_paragraph(layout, context, f"{entry.about.rstrip('.')}.", width=width)
    if choices.is_builtin:
        layout.menu("COGRAD3D_MT_words", icon="QUESTION")
    elif choices.prior_source in ("FILE", "HUB"):
        _draw_consent(layout, context, width)


_OWN = {"FOLDER": "A Folder", "FILE": "A File", "HUB": "A Name on the Hub"}


def _draw_consent(layout: bpy.types.UILayout, context: bpy.types.Context, width: int) -> None:
    """Whether a model may be fetched, and what that needs."""
    chosen = context.scene.cograd3d
    known = by_hub_id(chosen.prior_hub) if chosen.prior_source == "HUB" else None
    what = f"about {known.download:g} GB" if known else "several GB" if chosen.prior_source == "HUB" else "what the file lacks"
    row = layout.row()
    row.enabled = bpy.app.online_access and bool(chosen.fetched())
    row.prop(chosen, "allow_download", text=f"May download {what}")
    if not bpy.app.online_access:
        text = "Blender may not use the network. A model that is on this computer already works all the same."
        draw_paragraph(layout, context, text, width=width)
        layout.operator("cograd3d.allow_online_access", icon="PREFERENCES")
    elif not chosen.allow_download:
        draw_paragraph(layout, context, "Without this, only a model that is on this computer already works.", width=width)
    elif known and known.is_gated:
        text = "First accept its licence on its page of the hub, and log in with `hf auth login` or HF_TOKEN."
        draw_paragraph(layout, context, text, width=width)


def _draw_prompt(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    chosen = context.scene.cograd3d
    column = layout.column()
    header = column.row()
    header.label(text="What shall it be?")
    tools = header.row(align=True)
    tools.alignment = "RIGHT"
    tools.menu("COGRAD3D_MT_prompts", text="", icon="RECOVER_LAST")
    tools.menu("COGRAD3D_MT_words", text="", icon="QUESTION")
    if hasattr(column, "textbox"):
        column.textbox(chosen, "prompt", initial_visible_lines=PROMPT_LINES, placeholder=_EXAMPLE)
    else:
        field = column.column()
        field.scale_y = 1.2
        field.prop(chosen, "prompt", text="", placeholder=_EXAMPLE)
    _draw_hint(column, context)
    header, body = layout.panel("cograd3d_negative_prompt", default_closed=True)
    header.label(text="Avoid")
    if body is not None:
        body.prop(chosen, "negative_prompt", text="", placeholder="nothing in particular")


def _hint(chosen: bpy.types.PropertyGroup) -> words.Hint:
    if len(chosen.prompt) > LONGEST_PROMPT:
        return words.Hint(f"The prompt has {len(chosen.prompt):,} characters; {LONGEST_PROMPT:,} are read.")
    return words.hint(chosen.prompt) if chosen.prior_source in BUILTIN_SOURCES else words.Hint()


def _draw_hint(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    hint = _hint(context.scene.cograd3d)
    if not hint.message:
        return
    box = layout.box()
    draw_paragraph(box, context, hint.message, icon="INFO")
    for word, near in hint.suggestions:
        row = box.row(align=True)
        for candidate in near:
            button = row.operator("cograd3d.replace_word", text=candidate, translate=False)
            button.word, button.by = word, candidate
    box.menu("COGRAD3D_MT_words", icon="QUESTION")


def _note(layout: bpy.types.UILayout, text: str) -> None:
    """A remark below a property, where its value stands."""
    row = layout.row()
    row.alignment = "RIGHT"
    row.active = False
    row.label(text=text)


CLASSES = (COGRAD3D_PT_main, COGRAD3D_PT_prior, COGRAD3D_PT_result_options, COGRAD3D_PT_first_shape)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
