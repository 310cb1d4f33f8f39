"""What is below the mouse, or looked through, goes away: a smaller grid takes the place of the hovered one, and the viewport is clicked; an
asset is deleted while the viewport looks at it through one of its views.
"""

import json

import bpy
import numpy as np
from inside.assets import empty_scene, finished_asset, look_from


def scenario(stage):
    sources, gizmos, picking = (stage.module(f"cograd3d_addon.viewport.{name}") for name in ("sources", "gizmos", "picking"))
    empty_scene()
    asset = finished_asset(stage)
    yield from stage.open_panel()
    look_from(stage)
    yield from stage.settle(1.0)

    def pixel(region):
        with stage.override():
            view, viewport = sources.shown(bpy.context), bpy.context.region
            hull = gizmos.batches.update(bpy.context, view).hulls[region]
            perspective = np.array(bpy.context.region_data.perspective_matrix)
            return picking.project(hull, perspective, viewport.width, viewport.height)[0][1:].mean(axis=0)

    def hovered():
        with stage.override():
            return gizmos.hovered(bpy.context)

    yield from stage.move(*pixel(13))
    yield from stage.wait_for(lambda: hovered() == 13, "the view to be highlighted")
    regions = json.loads(asset["cograd3d"]["regions"])
    fewer = {name: value[:3] if isinstance(value, list) else value for name, value in regions.items()}
    asset["cograd3d"]["regions"] = json.dumps(fewer)
    yield from stage.settle(0.5)
    for value in ("PRESS", "RELEASE"):  # without moving the mouse, which would have it looked for anew
        stage.window.event_simulate(type="LEFTMOUSE", value=value, x=stage.mouse[0], y=stage.mouse[1])
        yield 0.1
    with stage.override():
        view = sources.shown(bpy.context)
        stage.record(views=len(view), selected=sorted(sources.selected(view).regions))

    asset["cograd3d"]["regions"] = json.dumps(regions)
    yield from stage.settle(0.5)
    before = place(stage)
    with stage.override():
        bpy.ops.cograd3d.region_select(region=13)
        bpy.ops.cograd3d.region_look_through()
    stage.record(moved=place(stage) != before)
    bpy.data.objects.remove(asset)
    yield from stage.settle(1.0)
    yield from stage.press("cograd3d.region_look_back")
    yield from stage.settle(0.5)
    stage.record(is_back=bool(np.allclose(place(stage), before, atol=1e-5)))


def place(stage):
    space = stage.area.spaces.active
    view = space.region_3d
    return [*view.view_location, *view.view_rotation, view.view_distance, space.lens]
