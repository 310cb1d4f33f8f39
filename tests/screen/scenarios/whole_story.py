"""From a sentence to an exported asset, as an artist does it: typing, pressing the panel's buttons, clicking a little camera."""

import shutil

import bpy
import numpy as np

PROMPT = "a red cat"


def scenario(stage):
    session = stage.module("cograd3d_addon.session")
    sources = stage.module("cograd3d_addon.viewport.sources")

    def job():
        return session.manager().get(job_id)

    def shown():
        with stage.override():
            return sources.shown(bpy.context)

    # The panel, and the order
    for thing in list(bpy.data.objects):
        bpy.data.objects.remove(thing)
    bpy.context.scene.cograd3d.quality = "draft"
    bpy.context.scene.cograd3d.overrides = (
        '{"optimizer.iterations": 3000}'  # it is to run until "Finish Now" is pressed, however slow the window
    )
    yield from stage.open_panel()
    stage.screenshot("1-panel")
    yield from stage.enter_text("cograd3d.prompt", PROMPT)
    stage.record(prompt=bpy.context.scene.cograd3d.prompt)
    yield from stage.press("cograd3d.generate")
    first = yield from stage.wait_for(lambda: next(iter(session.manager().jobs), None), "a job", 10)
    job_id = first.id
    yield from stage.wait_for(lambda: job().regions and sum(job().regions.visits) > 100, "a grid with numbers", 240)

    # The grid: its colours
    yield from stage.press("cograd3d.pause")
    yield from stage.wait_for(lambda: job().status.value == "paused", "the pause", 30)
    yield from stage.settle(1.0)
    stage.screenshot("2-running")
    stage.record(running=(yield from colours_seen(stage, shown())), preview=(yield from preview_seen(stage, job_id)))

    # A click on a little camera, and a push
    region, place = clickable_region(stage)
    yield from stage.click(*place)
    yield from stage.settle(0.5)
    stage.record(clicked=region, selected=sorted(sources.selected(shown()).regions))
    stage.screenshot("3-selected")
    boosted_at = job().progress.iteration
    yield from stage.press("cograd3d.region_weight(action='BOOST')")
    yield from stage.press("cograd3d.resume")
    yield from stage.wait_for(lambda: job().progress.iteration > boosted_at + 20, "twenty more steps", 60)
    stage.record(boosted_after=boosted_at)

    # The result
    yield from stage.press("cograd3d.stop")
    yield from stage.wait_for(lambda: job().status.is_over, "the end of the run", 240)
    stage.record(status=job().status.value, error=str(job().error or ""), trace=(job().path / "trace.jsonl").read_text(encoding="utf-8"))
    yield from stage.wait_for(lambda: assets(), "the imported asset", 30)
    yield from stage.settle(1.0)
    stage.screenshot("4-imported")
    stage.record(asset=describe(assets()[0]), objects=[thing.name for thing in bpy.data.objects])

    # The grid from the file alone
    file = str(stage.folder / "asset.blend")
    bpy.ops.wm.save_as_mainfile(filepath=file)
    shutil.move(job().path, stage.folder / "moved-away")
    bpy.ops.wm.read_homefile()
    yield from stage.wait_for(lambda: job() is None, "the job to be gone from the list", 30)
    bpy.ops.wm.open_mainfile(filepath=file)
    yield from stage.settle(1.0)
    yield from stage.open_panel()
    asset = assets()[0]
    bpy.context.view_layer.objects.active = asset
    asset.select_set(True)
    yield from stage.wait_for(shown, "the grid of the saved asset", 10)
    yield from stage.settle(1.0)
    stage.screenshot("5-from-the-file")
    stage.record(reopened=(yield from colours_seen(stage, shown())), asset_reopened=describe(assets()[0]))

    with stage.override():
        bpy.ops.cograd3d.export_result(format="GLB", filepath=str(stage.folder / "exported.glb"))


def assets():
    """The imported objects, found by what they carry."""
    return [thing for thing in bpy.data.objects if "cograd3d" in thing and thing.type == "MESH" and thing["cograd3d"].get("regions")]


def describe(asset):
    return {
        "prompt": asset["cograd3d"]["prompt"],
        "faces": len(asset.data.polygons),
        "uv": len(asset.data.uv_layers),
        "images": [node.image.name for slot in asset.material_slots for node in slot.material.node_tree.nodes if node.type == "TEX_IMAGE"],
    }


def preview_seen(stage, job_id):
    """The growing asset: its size, and how many pixels it takes, seen by hiding it for a moment."""
    preview = stage.module("cograd3d_addon.importing.preview")
    yield from stage.wait_for(lambda: preview.object_of(job_id), "the preview", 30)
    shown = yield from stage.framebuffer()
    preview.object_of(job_id).hide_viewport = True
    hidden = yield from stage.framebuffer()
    thing = preview.object_of(job_id)
    thing.hide_viewport = False
    pixels = int((np.abs(shown.astype(int) - hidden).max(axis=2) > 12).sum())
    return {"faces": len(thing.data.polygons), "height": thing.dimensions.z, "pixels": pixels}


def glyph_edges(stage, view):
    """[N, 4, 2] pixels in the middle of the front edges of the little cameras."""
    frustums, picking = stage.module("cograd3d_addon.viewport.frustums"), stage.module("cograd3d_addon.viewport.picking")
    with stage.override():
        style = stage.module("cograd3d_addon.viewport.sources").style(bpy.context)
    half, length = frustums.glyph_sizes(view.cameras, view.centre, view.fov, style.size)
    corners = frustums.hulls(view.cameras, half, length)[:, 1:]
    region = stage.region()
    perspective = np.array(stage.area.spaces.active.region_3d.perspective_matrix)
    pixels, _ = picking.project((corners + np.roll(corners, -1, axis=1)) / 2, perspective, region.width, region.height)
    return pixels


def colours_seen(stage, view):
    """Shares of the little cameras that have, somewhere at their frames, the colour of their own number, and that of another's."""
    sources, glyphs = stage.module("cograd3d_addon.viewport.sources"), stage.module("cograd3d_addon.viewport.glyphs")
    picture = yield from stage.framebuffer()
    with stage.override():
        measure, style = sources.measure(bpy.context), sources.style(bpy.context)
    expected = 255 * glyphs.region_colours(view, measure, style.ramp)
    height, width, _ = picture.shape
    errors = np.full((len(view), len(view)), np.inf)
    for region, edges in enumerate(glyph_edges(stage, view)):
        for x, y in np.rint(edges).astype(int):
            if 4 <= x < width - 4 and 4 <= y < height - 4:
                patch = picture[height - y - 4 : height - y + 3, x - 3 : x + 4].reshape(-1, 3).astype(float)
                distance = np.linalg.norm(patch[:, None] - expected[None], axis=2).min(axis=0)
                errors[region] = np.minimum(errors[region], distance)
    inside = np.isfinite(errors[:, 0])
    contrast = np.linalg.norm(expected[:, None] - expected[None], axis=2)
    other = np.argmax(contrast, axis=1)  # the region whose colour differs most
    numbers = np.arange(len(view))
    return {
        "regions": int(inside.sum()),
        "own": float((errors[numbers, numbers][inside] < 30).mean()),
        "foreign": float((errors[numbers, other][inside] < 30).mean()),
        "contrast": float(contrast.max()),
    }


def clickable_region(stage):
    """A region whose little camera is in the open, and the pixel in the middle of it."""
    picking, gizmos = stage.module("cograd3d_addon.viewport.picking"), stage.module("cograd3d_addon.viewport.gizmos")
    hulls = gizmos.batches.glyphs.hulls
    region = stage.region()
    perspective = np.array(stage.area.spaces.active.region_3d.perspective_matrix)
    pixels, _ = picking.project(hulls[:, 1:].mean(axis=1), perspective, region.width, region.height)
    panel = stage.region("UI")
    for candidate, (x, y) in enumerate(pixels):
        is_open = 80 < x < panel.x - region.x - 40 and 60 < y < region.height - 120
        if is_open and picking.pick(hulls, perspective, region.width, region.height, (x, y)) == candidate:
            return candidate, (float(x), float(y))
    raise LookupError("no little camera is in the open")
