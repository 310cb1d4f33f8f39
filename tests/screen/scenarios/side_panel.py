"""The extension is enabled at start-up, and its tab can be opened in the side panel."""

import bpy


def scenario(stage):
    stage.record(version=bpy.app.version_string, enabled="bl_ext.user_default.cograd3d" in bpy.context.preferences.addons)
    yield from stage.open_panel()
    stage.record(category=stage.region("UI").active_panel_category)
    stage.screenshot("panel")
    stage.record(buttons=(yield from stage.buttons()))
