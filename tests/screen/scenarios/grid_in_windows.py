"""Whose grid is drawn where: an old job and the default cube, a maximised viewport, four views in one, two windows with two scenes."""

import bpy
import numpy as np
from inside.assets import finished_asset, look_from

REDRAWS = 6


def scenario(stage):
    sources = stage.module("cograd3d_addon.viewport.sources")
    session = stage.module("cograd3d_addon.session")
    interface = bpy.context.window_manager.cograd3d

    # An old job is all there is, and the panel was never opened
    yield from stage.wait_for(session.selected_job, "the job of an earlier day")
    look_from(stage, azimuth=15.0, elevation=35.0, distance=9.0)
    stage.record(drawn_over_the_cube=(yield from drawn_pixels(stage, interface)))
    with stage.override():
        bpy.ops.cograd3d.import_result(job=session.selected_job().id)
        bpy.context.active_object.select_set(False)
    stage.record(drawn_around_the_asset=(yield from drawn_pixels(stage, interface)))

    # Nothing is laid out anew for another redraw
    legend = stage.module("cograd3d_addon.viewport.legend")
    before = legend.legend_sheet.cache_info()
    for azimuth in (10.0, 20.0, 30.0):
        look_from(stage, azimuth=azimuth)
        yield from stage.framebuffer()
    after = legend.legend_sheet.cache_info()
    stage.record(legends_used=after.hits - before.hits, legends_made=after.misses - before.misses)

    # Looking through a view, maximised meanwhile
    with stage.override():
        bpy.ops.cograd3d.region_select(region=13)
        bpy.ops.cograd3d.region_look_through()
        bpy.ops.screen.screen_full_area()
    yield from stage.settle(1.0)
    with stage.override():
        view = sources.shown(bpy.context)
        looked_through = stage.module("cograd3d_addon.viewport.looking").looked_through
        stage.record(still_through=looked_through(bpy.context, view), offers_back=bpy.ops.cograd3d.region_look_back.poll())
        if bpy.ops.cograd3d.region_look_back.poll():
            bpy.ops.cograd3d.region_look_back()
        bpy.ops.screen.screen_full_area()
    yield from stage.settle(1.0)
    stage.record(distance_after_back=stage.area.spaces.active.region_3d.view_distance)

    # Four views in one viewport
    with stage.override():
        bpy.ops.screen.region_quadview()
    yield from stage.settle(1.0)
    stage.screenshot("quadrants")
    viewports = [region for region in stage.area.regions if region.type == "WINDOW"]
    stage.record(quadrants=len(viewports), legends=(yield from legends_of_quadrants(stage, legend)))
    with bpy.context.temp_override(window=stage.window, area=stage.area, region=viewports[-1]):
        bpy.ops.cograd3d.region_look_through()
        stage.record(through_in_quadrant=looked_through(bpy.context, sources.shown(bpy.context)))
        bpy.ops.cograd3d.region_look_back()
        bpy.ops.screen.region_quadview()
    yield from stage.settle(1.0)

    # Two windows, each with its own scene and asset
    first = finished_asset(stage, uuid="first", prompt="first")
    with stage.override():
        bpy.ops.wm.window_new_main()
    yield from stage.settle(1.0)
    windows = list(bpy.context.window_manager.windows)
    windows[1].scene = bpy.data.scenes.new("Another")
    second = first.copy()
    second.name = "second"
    second["cograd3d"] = dict(first["cograd3d"]) | {"uuid": "second", "job": "deleted-second"}
    windows[1].scene.collection.objects.link(second)
    windows[1].view_layer.objects.active = second
    second.select_set(True, view_layer=windows[1].view_layer)
    yield from stage.settle(1.0)

    seen, drawn_in = [[], []], []

    def note():
        index = [window.as_pointer() for window in windows].index(bpy.context.window.as_pointer())
        drawn_in.append(index)
        view = sources.drawn(bpy.context)
        seen[index].append(view.owner if view is not None else "")

    handler = bpy.types.SpaceView3D.draw_handler_add(note, (), "WINDOW", "POST_PIXEL")
    batches = stage.module("cograd3d_addon.viewport.gizmos").batches
    try:
        yield from redraw_in_turns(windows)
        builds, begin = batches.builds, len(drawn_in)
        for _ in range(REDRAWS):
            yield from redraw_in_turns(windows)
        stage.record(builds_in_turns=batches.builds - builds, drawn_in_turns=[drawn_in[begin:].count(index) for index in (0, 1)])
        stage.record(owners=[sorted(set(names)) for names in seen])

        # What is chosen in the list of jobs is shown in both, and drawn where it stands
        imported = session.selected_job().id
        other = next(job.id for job in session.manager().jobs if job.id != imported)
        for name, job in (("owners_of_what_is_nowhere", other), ("owners_of_the_job", imported)):
            session.select_job(job)
            yield from redraw_in_turns(windows)
            for names in seen:
                names.clear()
            for _ in range(3):
                yield from redraw_in_turns(windows)
            stage.record(**{name: [sorted(set(names)) for names in seen]})
    finally:
        bpy.types.SpaceView3D.draw_handler_remove(handler, "WINDOW")


def redraw_in_turns(windows):
    """First one window, then the other."""
    for window in windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()
        yield 0.15


def drawn_pixels(stage, interface):
    """How many pixels of the viewport the grid and its legend change."""
    yield from stage.framebuffer()
    shown = yield from stage.framebuffer()
    interface.show_regions = False
    bare = yield from stage.framebuffer()
    interface.show_regions = True
    return changed(shown, bare)


def changed(first, second):
    return int((np.abs(first.astype(int) - second).max(axis=2) > 6).sum())


def legends_of_quadrants(stage, legend):
    """How many pixels the legend changes in each viewport of a quad view."""
    yield from stage.settle(0.5)
    shown = quadrants(stage)
    legend.unregister()
    yield from stage.settle(0.5)
    bare = quadrants(stage)
    legend.register()
    return [changed(first, second) for first, second in zip(shown, bare)]


def quadrants(stage):
    """What the screen shows of each."""
    screen = stage.pixels()
    return [
        screen[screen.shape[0] - region.y - region.height : screen.shape[0] - region.y, region.x : region.x + region.width]
        for region in stage.area.regions
        if region.type == "WINDOW"
    ]
