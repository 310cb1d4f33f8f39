"""The recorder of what is drawn refuses what Blender would."""

from __future__ import annotations

import bpy
import pytest

from tests.blender.layouts import Drawn, Layout


@pytest.mark.parametrize(
    ("draw", "told"),
    [
        (lambda layout: layout.label(text="x", icon="NOT_THERE"), "there is no 'NOT_THERE'"),
        (lambda layout: layout.label(text="x", colour=1), "label has no {'colour'}"),
        (lambda layout: layout.label(text=1), "text is to be STRING"),
        (lambda layout: layout.label(), "says nothing"),
        (lambda layout: layout.progress(text="x", factor=1.5), "out of range"),
        (lambda layout: layout.prop(bpy.context.scene), "prop needs {'property'}"),
        (lambda layout: layout.prop(bpy.context.scene, "not_there"), "has no property not_there"),
        (lambda layout: layout.operator("object.not_there"), "there is no operator object.not_there"),
        (lambda layout: setattr(layout.operator("object.delete"), "not_there", True), "has no not_there"),
        (lambda layout: setattr(layout.operator("object.shade_smooth_by_angle"), "angle", "wide"), "angle is to be FLOAT"),
        (lambda layout: layout.menu("NOT_MT_there"), "there is no menu NOT_MT_there"),
        (lambda layout: setattr(layout, "alignment", "MIDDLE"), "there is no 'MIDDLE'"),
        (lambda layout: setattr(layout, "colour", 1), "a layout has no colour"),
    ],
)
def test_what_blender_would_refuse(draw, told):
    with pytest.raises(AssertionError, match=told):
        draw(Layout(Drawn()))


def test_what_was_drawn_is_told(addon):
    drawn = Drawn()
    layout = Layout(drawn)
    layout.row(align=True).label(text="Hello", icon="INFO")
    layout.operator("object.delete", text="").use_global = True
    layout.operator("object.delete")
    assert drawn.texts == ["Hello", "Delete"] and drawn.operators == ["object.delete", "object.delete"]
    assert drawn.buttons[0][1].values == {"use_global": True}
    assert not hasattr(layout, "not_there")
