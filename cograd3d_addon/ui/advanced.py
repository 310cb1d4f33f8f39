"""Every other setting, a folded panel a section, made from `settings.controls`."""

import bpy

from ..properties import special_name
from ..settings import overrides
from ..settings.controls import SECTIONS, Control, sections
from ..settings.methods import Method, methods
from .main import CATEGORY
from .text import draw_paragraph


class COGRAD3D_PT_advanced(bpy.types.Panel):
    """Settings of the method, for those who want to know"""

    bl_idname = "COGRAD3D_PT_advanced"
    bl_label = "Advanced"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = CATEGORY
    bl_parent_id = "COGRAD3D_PT_main"
    bl_order = 2
    bl_options = {"DEFAULT_CLOSED"}

    def draw_header_preset(self, context: bpy.types.Context) -> None:
        _draw_badge(self.layout, context, "")

    def draw(self, context: bpy.types.Context) -> None:
        layout, chosen = self.layout, context.scene.cograd3d
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(chosen, "method")
        _draw_method(layout, context, methods()[chosen.method])
        if together := overrides.problems(chosen.overrides, chosen.quality, chosen.method).get(""):
            _draw_problem(layout, context, together)
        if chosen.overrides:
            layout.operator("cograd3d.reset_setting", text="Reset All", icon="LOOP_BACK").setting = ""


def _draw_method(layout: bpy.types.UILayout, context: bpy.types.Context, method: Method) -> None:
    """What a method is, in a line; folded away, where it comes from."""
    draw_paragraph(layout, context, f"{method.description}.")
    if method.details:
        header, body = layout.panel("cograd3d_method", default_closed=True)
        header.label(text="About This Method")
        if body is not None:
            for text in method.details:
                draw_paragraph(body, context, text)


class _Section:
    """The panel of one section."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = CATEGORY
    bl_parent_id = "COGRAD3D_PT_advanced"
    bl_options = {"DEFAULT_CLOSED"}
    section = ""
    layout: bpy.types.UILayout  # of bpy.types.Panel

    def draw_header_preset(self, context: bpy.types.Context) -> None:
        _draw_badge(self.layout, context, self.section)

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        for control in sections()[self.section]:
            draw_setting(layout, context, control)


def draw_setting(layout: bpy.types.UILayout, context: bpy.types.Context, control: Control) -> None:
    """One setting: its control, the checkbox of a number that may be left open, a reset button if it is changed, what is wrong with it."""
    chosen = context.scene.cograd3d
    group = getattr(chosen.advanced, control.section)
    changed = overrides.is_changed(chosen.overrides, control.path)
    row = layout.row(align=True)
    if control.special_label and getattr(group, special_name(control)):
        split = row.column(heading=control.label)
        split.prop(group, special_name(control))
    else:
        row.prop(group, control.name)
        if control.special_label:
            row.prop(group, special_name(control), text="", icon="UNLINKED")
    if changed:
        row.operator("cograd3d.reset_setting", text="", icon="LOOP_BACK").setting = control.path
    if problem := overrides.problems(chosen.overrides, chosen.quality, chosen.method).get(control.path):
        _draw_problem(layout, context, problem)


def _draw_badge(layout: bpy.types.UILayout, context: bpy.types.Context, section: str) -> None:
    chosen = context.scene.cograd3d
    if count := overrides.count(chosen.overrides, section):
        problems = overrides.problems(chosen.overrides, chosen.quality, chosen.method)
        is_wrong = any(not section or path.startswith(f"{section}.") for path in problems)
        layout.label(text=f"{count} changed", icon="ERROR" if is_wrong else "NONE")


def _draw_problem(layout: bpy.types.UILayout, context: bpy.types.Context, problem: tuple[str, str]) -> None:
    draw_paragraph(layout, context, " ".join(problem), icon="ERROR")


def _section_panel(section: str) -> type:
    name = f"COGRAD3D_PT_section_{section}"
    members = {"__doc__": f"Settings: {SECTIONS[section]}", "__module__": __name__, "bl_idname": name, "bl_label": SECTIONS[section]}
    return type(name, (_Section, bpy.types.Panel), {**members, "section": section})


CLASSES = (COGRAD3D_PT_advanced, *(_section_panel(section) for section in sections()))

register, unregister = bpy.utils.register_classes_factory(CLASSES)
