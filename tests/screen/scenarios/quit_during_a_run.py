"""Start a run, and quit Blender in the middle of it."""

import bpy

OVERRIDES = {"optimizer.iterations": 20_000}


def scenario(stage):
    yield from stage.settle(1.0)
    stage.module("cograd3d_addon.package").preferences(bpy.context).on_quit = stage.arguments["on_quit"]
    manager = stage.module("cograd3d_addon.session").manager()
    spec, config = stage.module("backend.request").make_request("a red cat", quality="draft", overrides=OVERRIDES)
    job = manager.submit(spec, config)
    yield from stage.wait_for(lambda: job.progress is not None and job.progress.iteration > 5, "some steps", 180)
    stage.record(job=job.id, iteration=job.progress.iteration)
