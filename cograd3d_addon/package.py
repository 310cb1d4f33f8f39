"""Which extension this is. No bpy at import."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import bpy

    from .preferences import CoGradPreferences

ROOT_PACKAGE = __package__.rpartition(".")[0]
"""The name under which Blender knows the extension, `bl_ext.user_default.cograd3d` for one that was installed from a file."""


def preferences(context: bpy.types.Context | None = None) -> CoGradPreferences:
    """The extension's preferences."""
    import bpy

    return (context or bpy.context).preferences.addons[ROOT_PACKAGE].preferences
