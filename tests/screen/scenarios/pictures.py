"""The pictures of docs/blender.md, taken while an asset is made: the panel and the grid in mid-run, a view looked through, a render."""

import math

import bpy
from mathutils import Euler, Vector

PROMPT = "a red cat"
MOMENT = 0.45
"""How far the run is when its pictures are taken."""


def scenario(stage):
    session = stage.module("cograd3d_addon.session")
    for thing in list(bpy.data.objects):
        bpy.data.objects.remove(thing)
    settings = bpy.context.scene.cograd3d
    settings.prompt, settings.quality = PROMPT, stage.arguments["quality"]
    with stage.override():
        bpy.ops.screen.screen_full_area()  # the viewport alone
    yield from stage.settle()
    yield from stage.open_panel()
    stage.area.spaces.active.overlay.show_text = False
    look_from(stage, azimuth=35, elevation=18, distance=6.5)
    with stage.override():
        bpy.ops.cograd3d.generate()
    job_id = session.manager().jobs[0].id

    def job():
        return session.manager().get(job_id)

    def progress():
        return job().progress.iteration / job().progress.total if job().progress and job().progress.phase == "optimise" else 0.0

    yield from stage.wait_for(lambda: progress() >= MOMENT or job().status.is_over, "the middle of the run", 900)
    yield from stage.move(5, 5)
    yield from stage.settle(1.5)
    stage.screenshot("panel")

    with stage.override():
        bpy.ops.cograd3d.region_step(to="WORST")
    yield from stage.settle(2.5)  # its picture comes from the worker
    stage.screenshot("grid")
    while stage.scroll("scroll_down"):
        pass
    yield from stage.settle(1.5)
    stage.screenshot("view")
    stage.scroll("scroll_up")
    yield from stage.settle(0.5)
    with stage.override():
        bpy.ops.cograd3d.region_look_through()
    yield from stage.settle(1.5)
    stage.screenshot("look-through")
    with stage.override():
        bpy.ops.cograd3d.region_look_back()

    yield from stage.wait_for(lambda: job().status.is_over, "the end of the run", 900)
    stage.record(status=job().status.value)
    yield from stage.wait_for(lambda: asset() is not None, "the imported asset", 30)
    yield from stage.settle(1.0)
    stage.screenshot("imported")
    render(asset(), str(stage.folder / "render.png"))


def asset():
    return next((thing for thing in bpy.data.objects if "cograd3d" in thing and thing.type == "MESH" and len(thing.data.polygons)), None)


def look_from(stage, azimuth, elevation, distance):
    """Turn the viewport towards the middle of where the asset will stand."""
    view = stage.area.spaces.active.region_3d
    view.view_rotation = Euler((math.radians(90 - elevation), 0, math.radians(azimuth))).to_quaternion()
    view.view_location, view.view_distance = (0, 0, 0.5), distance


def render(thing, file):
    """The asset on a floor in the sun, by Cycles."""
    scene = bpy.context.scene
    scene.render.engine, scene.cycles.samples, scene.cycles.use_denoising = "CYCLES", 96, True
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 800, 600, 100
    scene.view_settings.view_transform = "Standard"
    bpy.ops.mesh.primitive_plane_add(size=40, location=thing.location)
    floor = bpy.data.materials.new("Floor")
    floor.diffuse_color = (0.55, 0.53, 0.5, 1)
    floor.use_nodes = True
    floor.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = (0.55, 0.53, 0.5, 1)
    bpy.context.object.data.materials.append(floor)
    sun = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    sun.data.energy, sun.data.angle, sun.rotation_euler = 2.5, math.radians(8), Euler((math.radians(50), 0, math.radians(-35)))
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    middle = thing.location + Vector((0, 0, 0.45))
    camera.location = middle + Vector((1.5, -2.2, 0.75))
    camera.rotation_euler = (middle - camera.location).to_track_quat("-Z", "Y").to_euler()
    camera.data.lens = 60
    for new in (sun, camera):
        scene.collection.objects.link(new)
    scene.camera = camera
    scene.world = scene.world or bpy.data.worlds.new("World")
    scene.world.use_nodes = True
    scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.75, 0.82, 0.95, 1)
    scene.world.node_tree.nodes["Background"].inputs["Strength"].default_value = 0.6
    scene.render.filepath = file
    bpy.ops.render.render(write_still=True)
