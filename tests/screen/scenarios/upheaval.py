"""A run during which the artist opens files, undoes a lot, switches scenes and reloads the add-on: none of that harms the run."""

import bpy

OVERRIDES = {"optimizer.iterations": 20_000, "run.checkpoint_every": 50}  # it goes on until it is stopped, however slow the window


def scenario(stage):
    yield from stage.settle(1.0)
    session = stage.module("cograd3d_addon.session")
    spec, config = stage.module("backend.request").make_request("a red cat", quality="draft", overrides=OVERRIDES)
    job_id = session.manager().submit(spec, config).id

    def job():
        return session.manager().get(job_id)

    def worker():
        return stage.module("cograd3d_addon.jobs.disk").lock_holder(job().folder)

    def goes_on(after):
        """Wait for the run to have moved on since; tell how far it was, and who works on it."""
        before = job().progress.iteration if job().progress else 0
        yield from stage.wait_for(
            lambda: not job().status.is_live or (job().progress is not None and job().progress.iteration > before), f"a step {after}", 60
        )
        told = {"iteration": job().progress.iteration, "status": job().status.value, "worker": worker()}
        stage.record(**{after.replace(" ", "_"): told})

    yield from stage.wait_for(lambda: job().phase == "optimise" and job().progress is not None, "the first step", 120)
    stage.record(worker=worker())
    yield from stage.open_panel()

    bpy.ops.wm.read_homefile()
    yield from stage.settle(1.0)
    yield from goes_on("after a new file")

    with stage.override():
        for _ in range(30):
            bpy.ops.mesh.primitive_cube_add(size=0.1)
            bpy.ops.ed.undo_push(message="Add a cube")
    centre = stage.region().width // 2, stage.region().height // 2
    for _ in range(30):
        yield from stage.key("Z", *centre, ctrl=True)
    for _ in range(15):
        yield from stage.key("Z", *centre, ctrl=True, shift=True)
    stage.record(objects=len(bpy.data.objects))
    yield from goes_on("after an undo storm")

    stage.window.scene = bpy.data.scenes.new("Another")
    yield from stage.settle(0.5)
    yield from goes_on("after a scene switch")

    file = str(stage.folder / "saved.blend")
    bpy.ops.wm.save_as_mainfile(filepath=file)
    bpy.ops.wm.open_mainfile(filepath=file)
    yield from stage.settle(1.0)
    yield from goes_on("after opening a file")

    bpy.ops.preferences.addon_disable(module="bl_ext.user_default.cograd3d")
    yield 1.0
    bpy.ops.preferences.addon_enable(module="bl_ext.user_default.cograd3d")
    yield from stage.wait_for(lambda: job() is not None, "the job to be found again")
    yield from goes_on("after a reload")
    session.manager().stop(job())
    yield from stage.wait_for(lambda: job().status.is_over, "the end of the run", 240)
    stage.record(status=job().status.value, asset=(job().path / "asset.glb").exists(), error=str(job().error or ""))
