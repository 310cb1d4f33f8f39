"""When what happens without the user's doing may change the open file."""

from __future__ import annotations

import bpy


def is_rendering() -> bool:
    """Whether a render or a bake is going on. Its thread reads the file's data: what is added or removed meanwhile can crash Blender."""
    return any(map(bpy.app.is_job_running, ("RENDER", "OBJECT_BAKE")))


def obstacle() -> str:
    """Why nothing can be imported now in a way that one undo takes back; empty if nothing is in the way."""
    if is_rendering():
        return "waits until the render or bake is done"
    for window in bpy.context.window_manager.windows:
        active = window.view_layer.objects.active if window.view_layer else None
        if active is not None and active.mode != "OBJECT":
            return f"waits until you go back to Object Mode ({active.name} is being edited)"
        for operator in window.modal_operators:
            if {"UNDO", "BLOCKING", "GRAB_CURSOR"} & set(operator.bl_options):
                return f"waits until {operator.name} is done"
    return ""
