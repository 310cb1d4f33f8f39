"""The little cameras around an asset: the colours on the screen, what a hovered one says, what a click, a key and a button do."""

import re

import bpy
import numpy as np
from inside.assets import empty_scene, finished_asset, look_from
from mathutils import Quaternion


def scenario(stage):
    sources = stage.module("cograd3d_addon.viewport.sources")
    interface = bpy.context.window_manager.cograd3d

    def shown():
        with stage.override():
            return sources.shown(bpy.context)

    # What a finished object carries
    empty_scene()
    asset = finished_asset(stage)
    look_from(stage, azimuth=15.0, elevation=35.0, distance=7.0)
    yield from stage.wait_for(shown, "the grid")
    for measure in ("loss", "visits"):
        interface.measure = measure
        stage.record(**{f"{measure}_colours": (yield from colours_seen(stage, shown()))})

    # What hides it
    stage.record(drawn=(yield from glyph_pixels(stage, shown())))
    space = stage.area.spaces.active
    for name, owner, attribute in (
        ("overlays", space.overlay, "show_overlays"), ("gizmos", space, "show_gizmo"), ("views", interface, "show_regions"),
    ):  # fmt: skip
        setattr(owner, attribute, False)
        stage.record(**{f"drawn_without_{name}": (yield from glyph_pixels(stage, shown()))})
        setattr(owner, attribute, True)

    # The same numbers, nothing built anew: neither for a turned view nor for another redraw
    yield from stage.framebuffer()
    batches = stage.module("cograd3d_addon.viewport.gizmos").batches
    builds = batches.builds
    for azimuth in (10.0, 20.0, 30.0):
        look_from(stage, azimuth=azimuth)
        yield from stage.framebuffer()
    stage.record(builds_while_turning=batches.builds - builds)

    # Between the viewer and the asset nothing but lines
    look_from(stage, azimuth=30.0)
    region = 13  # front right 30 degrees, slightly above
    stage.record(over_asset=(yield from area_colour(stage, shown(), region)))
    stage.record(behind_asset=(yield from area_colour(stage, shown(), 30)))

    # Through a view: nothing of the grid, whatever is selected
    with stage.override():
        bpy.ops.cograd3d.region_select(region=region)
        bpy.ops.cograd3d.region_look_through()
    through = yield from stage.framebuffer()
    interface.show_regions = False
    bare = yield from stage.framebuffer()
    interface.show_regions = True
    stage.record(changed_through=share_changed(through, bare))
    # A little aside, the eye is still within that view's own glyph
    view3d = stage.area.spaces.active.region_3d
    view3d.view_rotation = view3d.view_rotation @ Quaternion((0, 1, 0), 0.02)
    aside = yield from stage.framebuffer()
    interface.show_regions = False
    bare = yield from stage.framebuffer()
    interface.show_regions = True
    stage.record(changed_aside=share_changed(aside, bare))
    with stage.override():
        bpy.ops.cograd3d.region_look_back()
        bpy.ops.cograd3d.region_select_all(action="NONE")

    # A running job
    bpy.data.objects.remove(asset)
    session = stage.module("cograd3d_addon.session")
    job = session.manager().submit(
        *stage.module("backend.request").make_request("a red cat", quality="draft", overrides={"grid.fov": 40.0})
    )
    session.select_job(job.id)
    yield from stage.open_panel()
    yield from stage.wait_for(lambda: job.regions is not None and shown() is not None, "a running job", 60)
    look_from(stage, azimuth=15.0, elevation=35.0, distance=7.0)
    stage.record(running_colours=(yield from colours_seen(stage, shown())))

    interface.measure = "loss"
    yield from stage.settle()
    listed = [re.search(r"region_select\(region=(\d+)", name) for name in (yield from stage.buttons())]
    stage.record(listed=[int(found[1]) for found in listed if found], errors=job.regions.loss)

    hovered = stage.module("cograd3d_addon.viewport.gizmos").hovered
    first, place = in_the_open(stage, shown())
    before = yield from stage.framebuffer()
    yield from stage.move(*place)
    yield from stage.wait_for(lambda: hovered_in(stage, hovered) == first, "the hovered view")
    after = yield from stage.framebuffer()
    stage.record(first=first, note_pixels=int(note_of(before, after)))
    stage.screenshot("hovered")
    yield from stage.move(5, 5)
    yield from stage.wait_for(lambda: hovered_in(stage, hovered) == -1, "no hovered view")

    yield from stage.click(*place)
    yield from stage.wait_for(lambda: sources.selected(shown()).regions, "a selection")
    stage.record(clicked=sorted(sources.selected(shown()).regions))
    second, place = in_the_open(stage, shown(), but=(first,))
    yield from stage.move(*place)
    yield from stage.wait_for(lambda: hovered_in(stage, hovered) == second, "the other hovered view")
    yield from stage.click(*place, shift=True)
    yield from stage.wait_for(lambda: len(sources.selected(shown()).regions) == 2, "an extended selection")
    stage.record(second=second, shift_clicked=sorted(sources.selected(shown()).regions))

    third, place = in_the_open(stage, shown(), but=(first, second))
    yield from stage.move(*place)
    yield from stage.wait_for(lambda: hovered_in(stage, hovered) == third, "the third hovered view")
    before = stage.region_pixels()
    yield from stage.click(*place, button="RIGHTMOUSE")
    yield from stage.wait_for(lambda: sorted(sources.selected(shown()).regions) == [third], "the view below the menu")
    yield from stage.wait_for(lambda: note_of(before, stage.region_pixels()) > 5000, "the menu")
    yield from stage.key("ESC", *place)
    with stage.override():
        bpy.ops.cograd3d.region_select(region=first)
        bpy.ops.cograd3d.region_select(region=second, extend=True)

    for action in ("BOOST", "FREEZE"):
        yield from stage.press(f"cograd3d.region_weight(action='{action}')")
        factor = {"BOOST": 4.0, "FREEZE": 0.0}[action]
        yield from stage.wait_for(
            lambda factor=factor: job.regions and job.regions.weight[first] == factor, f"the worker's word on {action}", 30
        )
    stage.screenshot("frozen")
    stage.record(trace=(job.path / "trace.jsonl").read_text(encoding="utf-8"))
    session.manager().cancel(job)
    yield from stage.wait_for(lambda: job.status.is_over, "the job's end")


def hovered_in(stage, hovered):
    stage.area.tag_redraw()
    with stage.override():
        return hovered(bpy.context)


def hulls_on_screen(stage, view):
    """([N, 5, 2] pixels, y up, of the corners of the little cameras, [N, 5] depths)."""
    frustums, picking = stage.module("cograd3d_addon.viewport.frustums"), stage.module("cograd3d_addon.viewport.picking")
    with stage.override():
        size = stage.module("cograd3d_addon.viewport.sources").style(bpy.context).size
    half, length = frustums.glyph_sizes(view.cameras, view.centre, view.fov, size)
    region = stage.region()
    perspective = np.array(stage.area.spaces.active.region_3d.perspective_matrix)
    return picking.project(frustums.hulls(view.cameras, half, length), perspective, region.width, region.height)


def frame_colour(picture, corners):
    """[K, 3] the colours between a frame's outline and where it is certainly hollow, for [4, 2] corners."""
    middle = corners.mean(axis=0)
    edges = (corners + np.roll(corners, -1, axis=0)) / 2
    places = np.rint(middle + np.linspace(0.9, 0.99, 4)[:, None, None] * (edges - middle)).astype(int).reshape(-1, 2)
    height, width, _ = picture.shape
    inside = (places[:, 0] >= 0) & (places[:, 0] < width) & (places[:, 1] >= 0) & (places[:, 1] < height)
    return picture[height - 1 - places[inside, 1], places[inside, 0]].astype(float)


def colours_seen(stage, view):
    """How far (in 8 bit steps) each glyph's colour on the screen is from the one that it should have, and from the one least like it."""
    sources = stage.module("cograd3d_addon.viewport.sources")
    picture = yield from stage.framebuffer()
    corners, depths = hulls_on_screen(stage, view)
    with stage.override():
        colours = 255 * sources.colours(bpy.context, view)
    other = colours[np.linalg.norm(colours[:, None] - colours[None], axis=2).argmax(axis=1)]
    middle = corners[:, 1:].mean(axis=1)
    region, panel = stage.region(), stage.region("UI")
    right = panel.x - region.x if panel.width > 1 else region.width
    seen = {}
    for number in range(len(view)):
        x, y = middle[number]
        alone = np.sort(np.linalg.norm(middle - middle[number], axis=1))[1] > 30
        if alone and 100 < x < right - 60 and 140 < y < region.height - 150 and np.isfinite(depths[number]).all():
            found = frame_colour(picture, corners[number, 1:])
            seen[number] = [float(np.linalg.norm(found - wanted[number], axis=1).min()) for wanted in (colours, other)]
    return seen


def glyph_pixels(stage, view):
    """How many pixels at the glyphs' frames have one of the grid's colours."""
    sources = stage.module("cograd3d_addon.viewport.sources")
    picture = yield from stage.framebuffer()
    with stage.override():
        colours = 255 * sources.colours(bpy.context, view)
    found = np.concatenate([frame_colour(picture, corners[1:]) for corners in hulls_on_screen(stage, view)[0]])
    return int((np.linalg.norm(found[:, None] - colours[None], axis=2).min(axis=1) < 12).sum())


def area_colour(stage, view, number):
    """The share of a glyph's frame that has its colour."""
    sources = stage.module("cograd3d_addon.viewport.sources")
    picture = yield from stage.framebuffer()
    with stage.override():
        colour = 255 * sources.colours(bpy.context, view)[number]
    found = frame_colour(picture, hulls_on_screen(stage, view)[0][number, 1:])
    return float((np.linalg.norm(found - colour, axis=1) < 25).mean())


def share_changed(first, second):
    """Of the middle of two pictures, where the asset is."""
    height, width, _ = first.shape
    middle = np.s_[height // 3 : 2 * height // 3, 2 * width // 5 : 3 * width // 5]
    return float((np.abs(first[middle].astype(int) - second[middle]).max(axis=2) > 6).mean())


def note_of(before, after):
    """How many pixels of the tooltip's dark background came up."""
    became_dark = (after.max(axis=2) < 45) & (before.max(axis=2) >= 45)
    return became_dark.sum()


def in_the_open(stage, view, but=()):
    """A region whose glyph nothing hides, and the pixel in its middle."""
    picking = stage.module("cograd3d_addon.viewport.picking")
    frustums = stage.module("cograd3d_addon.viewport.frustums")
    with stage.override():
        size = stage.module("cograd3d_addon.viewport.sources").style(bpy.context).size
    hulls = frustums.hulls(view.cameras, *frustums.glyph_sizes(view.cameras, view.centre, view.fov, size))
    region, panel = stage.region(), stage.region("UI")
    perspective = np.array(stage.area.spaces.active.region_3d.perspective_matrix)
    middles = hulls_on_screen(stage, view)[0][:, 1:].mean(axis=1)
    for number, (x, y) in enumerate(middles):
        is_open = 100 < x < panel.x - region.x - 60 and 150 < y < region.height - 160
        if number not in but and is_open and picking.pick(hulls, perspective, region.width, region.height, (x, y)) == number:
            return number, (float(x), float(y))
    raise LookupError("no little camera is in the open")
