"""A result comes by itself after the user added something; then the user adjusts the last operation, repeats it, undoes and redoes."""

import bpy


def scenario(stage):
    yield from stage.settle(1.0)
    manager, importing = stage.module("cograd3d_addon.session").manager(), stage.module("cograd3d_addon.importing")
    job = yield from stage.wait_for(lambda: manager.get(stage.arguments["job"]), "the job to be found")
    stage.module("backend.files").atomic_write_json(job.path / "blender.json", importing.order_for(bpy.context.scene))

    def note(moment):
        yield from stage.settle(0.5)
        stage.record(**{moment: sorted(thing.name for thing in bpy.data.objects)})

    with stage.override():
        bpy.ops.mesh.primitive_uv_sphere_add("EXEC_DEFAULT", True, radius=2)
    yield from note("before")

    for listener in list(manager.listeners):
        listener(job, stage.module("backend.protocol").Bye(reason="finished", exit_code=0))
    last = bpy.context.window_manager.operators[-1]
    stage.record(last=last.bl_idname, label=last.bl_label, state=importing.state(job))
    yield from note("brought")
    centre = stage.region().width // 2, stage.region().height // 2
    yield from stage.key("F9", *centre)  # Adjust Last Operation
    yield from stage.settle(1.0)
    stage.screenshot("adjust")
    yield from stage.key("ESC", *centre)

    with stage.override():
        bpy.ops.ed.undo_redo("EXEC_DEFAULT", True)  # what a change in that panel does
    yield from note("adjusted")
    yield from stage.key("R", *centre, shift=True)  # Repeat Last
    yield from note("repeated")
    for moment in ("undone", "undone_twice"):
        yield from stage.key("Z", *centre, ctrl=True)
        yield from note(moment)
    for moment in ("redone", "redone_twice"):
        yield from stage.key("Z", *centre, ctrl=True, shift=True)
        yield from note(moment)
