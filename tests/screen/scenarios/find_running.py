"""A job that an earlier Blender left running is in the list, goes on, obeys, and its result can be had."""

import bpy


def scenario(stage):
    session = stage.module("cograd3d_addon.session")

    def job():
        return session.manager().get(stage.arguments["job"])

    yield from stage.wait_for(lambda: job() is not None and job().progress is not None, "the running job")
    stage.record(found=job().status.value)
    first = job().progress.iteration
    yield from stage.wait_for(lambda: job().progress.iteration > first, "another step", 60)
    session.manager().stop(job())
    yield from stage.wait_for(lambda: job().status.is_over, "the end of the run", 240)
    session.select_job(job().id)
    with stage.override():
        bpy.ops.cograd3d.import_result()
    stage.record(status=job().status.value, imported=sum("cograd3d" in thing for thing in bpy.data.objects))
