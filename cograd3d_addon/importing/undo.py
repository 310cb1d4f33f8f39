"""When what happens without the user's doing may change the open file."""

from __future__ import annotations

import bpy


def is_file_locked() -> bool:
    """Whether Blender renders, bakes, calculates a simulation or the like. The thread that does it reads the file's data: what is added or
    removed meanwhile can crash Blender.

    A render need not lock the interface, and most of what does has no name that could be asked for.
    """
    manager = bpy.context.window_manager  # None while Blender quits
    return (manager is not None and manager.is_interface_locked) or any(map(bpy.app.is_job_running, ("RENDER", "OBJECT_BAKE")))


def obstacle() -> str:
    """Why nothing can be imported now in a way that one undo takes back; empty if nothing is in the way."""
    if is_file_locked():
        return "waits until Blender is done rendering, baking or calculating"
    for window in bpy.context.window_manager.windows:
        active = window.view_layer.objects.active if window.view_layer else None
        if active is not None and active.mode != "OBJECT":
            return f"waits until you go back to Object Mode ({active.name} is being edited)"
        for operator in window.modal_operators:
            if {"UNDO", "BLOCKING", "GRAB_CURSOR"} & set(operator.bl_options):
                return f"waits until {operator.name} is done"
    return ""
