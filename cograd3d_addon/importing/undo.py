"""Undo steps for what happens without an operator."""

from __future__ import annotations

import bpy


def push_undo(message: str) -> None:
    """Make what was done since the last undo step one of its own. Does nothing where there is no window, as in background mode."""
    windows = bpy.context.window_manager.windows
    if not windows:
        return
    with bpy.context.temp_override(window=bpy.context.window or windows[0]):
        if bpy.ops.ed.undo_push.poll():
            bpy.ops.ed.undo_push(message=message)


def obstacle() -> str:
    """Why nothing can be imported now in a way that one undo takes back; empty if nothing is in the way."""
    if bpy.app.is_job_running("RENDER"):
        return "waits until the render is done"
    for window in bpy.context.window_manager.windows:
        active = window.view_layer.objects.active if window.view_layer else None
        if active is not None and active.mode != "OBJECT":
            return f"waits until you go back to Object Mode ({active.name} is being edited)"
        for operator in window.modal_operators:
            if {"UNDO", "BLOCKING", "GRAB_CURSOR"} & set(operator.bl_options):
                return f"waits until {operator.name} is done"
    return ""
