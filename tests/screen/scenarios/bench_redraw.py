"""How long the viewport takes to be drawn with and without the grid, side panel closed; in turns, so that a busy machine slows both."""

import time

import bpy
import numpy as np
from inside.assets import empty_scene, finished_asset, look_from

ROUNDS, REDRAWS = 12, 10


def scenario(stage):
    sources = stage.module("cograd3d_addon.viewport.sources")
    gizmos, picking = stage.module("cograd3d_addon.viewport.gizmos"), stage.module("cograd3d_addon.viewport.picking")
    interface = bpy.context.window_manager.cograd3d
    empty_scene()
    for regions in stage.arguments["regions"]:
        empty_scene()
        finished_asset(stage, regions)
        look_from(stage, azimuth=30.0)
        yield from stage.settle(1.0)
        times = {True: [], False: []}
        builds = gizmos.batches.builds
        for _ in range(ROUNDS):
            for is_shown in (False, True):
                interface.show_regions = is_shown
                yield from stage.settle(0.05)
                times[is_shown] += redraws(stage)
        interface.show_regions = True
        yield from stage.settle(0.2)
        stage.record(
            **{
                f"regions_{regions}": {
                    "without_ms": times[False], "with_ms": times[True], "builds": gizmos.batches.builds - builds,
                    "pick_ms": pick_times(stage, gizmos, picking), "rebuild_ms": rebuild_times(stage, sources, gizmos),
                }
            }
        )  # fmt: skip


def redraws(stage):
    """Milliseconds of single redraws of the viewport, the GPU's work included."""
    view3d, times = stage.area.spaces.active.region_3d, []
    for step in range(REDRAWS + 2):
        view3d.view_distance = 9.0 + 0.01 * step
        with stage.override():
            began = time.perf_counter()
            bpy.ops.wm.redraw_timer(type="DRAW", iterations=1)
            times.append(1000 * (time.perf_counter() - began))
    return times[2:]  # the first ones after a switch build what was let go


def pick_times(stage, gizmos, picking):
    """Of finding out what is below the mouse, which happens at every movement of it."""
    region, hulls = stage.region(), gizmos.batches.glyphs.hulls
    perspective, times = np.array(stage.area.spaces.active.region_3d.perspective_matrix), []
    for x in np.linspace(0, region.width, 100):
        began = time.perf_counter()
        picking.pick(hulls, perspective, region.width, region.height, (x, region.height / 2))
        times.append(1000 * (time.perf_counter() - began))
    return times


def rebuild_times(stage, sources, gizmos):
    """Of making the batches anew, which happens when the numbers have changed or another region is selected."""
    times = []
    with stage.override():
        view = sources.shown(bpy.context)
        for region in range(20):
            sources.selected(view).click(region)
            began = time.perf_counter()
            gizmos.batches.update(bpy.context, view)
            times.append(1000 * (time.perf_counter() - began))
    return times
