"""What would be imported waits while textures are baked."""

import bpy


def scenario(stage):
    yield from stage.settle(1.0)
    undo = stage.module("cograd3d_addon.importing.undo")
    scene = bpy.context.scene
    scene.render.engine, scene.cycles.samples = "CYCLES", 4
    with stage.override():
        bpy.ops.mesh.primitive_plane_add()
        thing = bpy.context.active_object
        material = bpy.data.materials.new("Baked")
        material.use_nodes = True
        texture = material.node_tree.nodes.new("ShaderNodeTexImage")
        texture.image = bpy.data.images.new("Baked", 256, 256)
        material.node_tree.nodes.active = texture
        thing.data.materials.append(material)
        stage.record(before=undo.obstacle())
        bpy.ops.object.bake("INVOKE_DEFAULT", type="COMBINED")
    stage.record(during=undo.obstacle(), is_baking=bpy.app.is_job_running("OBJECT_BAKE"))
    yield from stage.wait_for(lambda: not bpy.app.is_job_running("OBJECT_BAKE"), "the bake's end")
    stage.record(after=undo.obstacle())
