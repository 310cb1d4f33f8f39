"""A scenario that goes wrong in the way that its argument `how` says, with a child that would outlive it."""

import subprocess

import bpy


class Faulty:
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Faulty"


class UnknownOperator(Faulty, bpy.types.Panel):
    bl_idname, bl_label = "FAULTY_PT_operator", "An Operator That Is Not There"

    def draw(self, context):
        self.layout.operator("cograd3d.not_there")


class UnknownProperty(Faulty, bpy.types.Panel):
    bl_idname, bl_label = "FAULTY_PT_property", "A Property That Is Not There"

    def draw(self, context):
        self.layout.prop(context.scene.cograd3d, "not_there")


class UnknownMenu(Faulty, bpy.types.Panel):
    bl_idname, bl_label = "FAULTY_PT_menu", "A Menu That Is Not There"

    def draw(self, context):
        self.layout.menu("COGRAD3D_MT_not_there")


class Raising(Faulty, bpy.types.Panel):
    bl_idname, bl_label = "FAULTY_PT_raising", "An Error"

    def draw(self, context):
        raise ZeroDivisionError("on purpose")


def scenario(stage):
    stage.record(child=subprocess.Popen(["sleep", "600"], start_new_session=True).pid)
    yield 0.1
    if stage.arguments["how"] == "raises":
        raise ZeroDivisionError("on purpose")
    if stage.arguments["how"] == "quits":
        bpy.ops.wm.quit_blender()
        yield 10.0
    if stage.arguments["how"] == "draws":
        for kind in (UnknownOperator, UnknownProperty, UnknownMenu, Raising):
            bpy.utils.register_class(kind)
        yield from stage.open_panel("Faulty")
        yield from stage.settle(1.0)
        return
    while True:
        """It hangs, and so does Blender."""
