"""The extension is disabled while a viewport looks through a view: maximised, then as a quad view. In between, scripts are reloaded."""

import bpy
import numpy as np
from inside.assets import empty_scene, finished_asset, look_from
from inside.stage import EXTENSION


def scenario(stage):
    empty_scene()
    finished_asset(stage)
    yield from stage.open_panel()
    look_from(stage)
    yield from stage.settle(1.0)
    before = place(stage)

    def look_through(then):
        with stage.override():
            bpy.ops.cograd3d.region_select(region=13)
            bpy.ops.cograd3d.region_look_through()
            then()

    def is_back():
        return bool(np.allclose(place(stage), before, atol=1e-5))

    look_through(bpy.ops.screen.screen_full_area)
    yield from stage.settle(0.5)
    stage.record(moved=not is_back())
    bpy.ops.preferences.addon_disable(module=EXTENSION)
    yield from stage.settle(0.5)
    stage.record(maximised_is_back=is_back())
    with stage.override():
        bpy.ops.screen.screen_full_area()
    yield from stage.settle(0.5)
    stage.record(is_still_back=is_back())

    bpy.ops.preferences.addon_enable(module=EXTENSION)
    bpy.ops.script.reload()
    yield from stage.settle(1.0)
    look_through(bpy.ops.screen.region_quadview)
    yield from stage.settle(0.5)
    bpy.ops.preferences.addon_disable(module=EXTENSION)
    yield from stage.settle(0.5)
    stage.record(quad_is_back=is_back())


def place(stage):
    space = stage.area.spaces.active
    view = space.region_3d
    return [*view.view_location, *view.view_rotation, view.view_distance, space.lens]
