"""A job of an earlier Blender is in the list, says that it was interrupted, and can be resumed to its end."""


def scenario(stage):
    yield from stage.settle(1.0)
    session = stage.module("cograd3d_addon.session")
    steps = []  # of the new worker alone: what the list shows of the job at first was read from the disk

    def job():
        return session.manager().get(stage.arguments["job"])

    def follow(_, event):
        if event.type == "progress" and event.phase == "optimise":
            steps.append(event.iteration)

    yield from stage.wait_for(lambda: job() is not None, "the job to be listed")
    stage.record(found=job().status.value, checkpoint=job().checkpoint)
    session.subscribe(follow)
    session.manager().resume(job())
    yield from stage.wait_for(lambda: len(steps) > 1 and steps[-1] > steps[0] + 20, "the run to go on", 120)
    stage.record(first_iteration=steps[0])
    session.manager().stop(job())
    yield from stage.wait_for(lambda: job().status.is_over, "the end of the run", 240)
    stage.record(status=job().status.value, asset=(job().path / "asset.glb").exists(), last_iteration=steps[-1])
