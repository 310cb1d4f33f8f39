"""A result comes by itself while the panel of the last operator is open, and the user adjusts, or undoes and redoes."""

import bpy


def scenario(stage):
    yield from stage.settle(1.0)
    manager = stage.module("cograd3d_addon.session").manager()
    path = manager.root / stage.arguments["job"]
    order = stage.module("cograd3d_addon.importing").order_for(bpy.context.scene)
    stage.module("backend.files").atomic_write_json(path / "blender.json", order)
    manager.scan()
    yield from stage.wait_for(lambda: manager.get(path.name), "the job to be found")

    def names():
        return sorted(thing.name for thing in bpy.data.objects)

    with stage.override():
        bpy.ops.mesh.primitive_uv_sphere_add("EXEC_DEFAULT", True, radius=2)
    yield from stage.settle()
    stage.record(before=names())
    for listener in list(manager.listeners):
        listener(manager.get(path.name), stage.module("backend.protocol").Bye(reason="finished", exit_code=0))
    yield from stage.wait_for(lambda: len(names()) > len(stage.values["before"]), "the result")
    stage.record(brought=names())
    if stage.arguments["adjust"]:
        with stage.override():
            bpy.ops.ed.undo_redo()  # what F9, or a change in the panel, does
        yield from stage.settle()
        stage.record(adjusted=names())
    else:
        centre = stage.region().width // 2, stage.region().height // 2
        yield from stage.key("Z", *centre, ctrl=True)
        stage.record(undone=names())
        yield from stage.key("Z", *centre, ctrl=True, shift=True)
        stage.record(redone=names())
