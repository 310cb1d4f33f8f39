"""Start a run, tell when it has a checkpoint, and go on until somebody ends Blender."""

OVERRIDES = {"optimizer.iterations": 20_000, "run.checkpoint_every": 20}


def scenario(stage):
    yield from stage.settle(1.0)
    manager = stage.module("cograd3d_addon.session").manager()
    spec, config = stage.module("backend.request").make_request("a red cat", quality="draft", overrides=OVERRIDES)
    job = manager.submit(spec, config)
    stage.record(job=job.id, path=str(job.path))
    yield from stage.wait_for(lambda: job.checkpoint > 0, "a checkpoint", 180)
    stage.record(checkpoint=job.checkpoint)
    yield from stage.wait_for(lambda: job.status.is_over, "the end of Blender", 600)
