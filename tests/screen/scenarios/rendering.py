"""Previews come and go while an animation is rendered, and the interface is not locked."""

import threading

import bpy


def scenario(stage):
    yield from stage.settle(1.0)
    session, protocol = stage.module("cograd3d_addon.session"), stage.module("backend.protocol")
    preview = stage.module("cograd3d_addon.importing.preview")
    manager = session.manager()
    job = yield from stage.wait_for(lambda: manager.get(stage.arguments["job"]), "the job to be found")
    order = stage.module("cograd3d_addon.importing").order_for(bpy.context.scene)
    stage.module("backend.files").atomic_write_json(job.path / "blender.json", order)
    icons, version = stage.module("cograd3d_addon.ui.icons"), 0

    def tell():
        nonlocal version
        version += 1
        preview.keep(job.id)  # only jobs that run have one
        job.preview = protocol.PreviewReady(iteration=version, image="preview.png", splats="preview.ply")
        for listener in list(manager.listeners):
            listener(job, job.preview)
        icons.icon(job.path / job.preview.image, version)

    def held():
        kinds = (bpy.data.objects, bpy.data.meshes, bpy.data.materials, bpy.data.collections, bpy.data.images)
        return [len(kind) for kind in kinds]

    def is_rendering():
        return bpy.app.is_job_running("RENDER")

    is_at_second, may_go_on = threading.Event(), threading.Event()

    def hold(scene, *_):
        """Runs in the render's thread, which then waits while the scenario goes on."""
        if scene.frame_current == 2:
            is_at_second.set()
            may_go_on.wait(60)

    scene = bpy.context.scene
    scene.render.engine, scene.cycles.samples, scene.cycles.use_denoising = "CYCLES", 1, False
    scene.render.resolution_x = scene.render.resolution_y = 32
    scene.render.filepath, scene.frame_end = f"{stage.folder}/frames/", 3
    scene.render.use_lock_interface = False
    bpy.context.preferences.view.render_display_type = "NONE"
    bpy.app.handlers.render_pre.append(hold)
    with stage.override():
        bpy.ops.render.render("INVOKE_DEFAULT", animation=True)
    yield from stage.wait_for(is_at_second.is_set, "the second frame")
    before, seen = held(), []
    for _ in range(3):
        tell()
        yield from stage.wait_for(lambda: not preview._reader.is_busy, "the preview to be read")
        yield 0.6
        seen.append(held())
        preview.remove(job.id)
        seen.append(held())
    tell()
    yield from stage.wait_for(lambda: not preview._reader.is_busy, "the preview to be read")
    yield 0.6
    stage.record(before=before, seen=seen, is_rendering=is_rendering())

    may_go_on.set()
    yield from stage.wait_for(lambda: not is_rendering(), "the render's end")
    yield from stage.wait_for(lambda: preview.object_of(job.id), "the preview")
    yield from stage.wait_for(lambda: not icons._wanted, "the picture")
    stage.record(frames=len(list(stage.folder.glob("frames/*"))))
    preview.remove(job.id)
    stage.record(after=held())
