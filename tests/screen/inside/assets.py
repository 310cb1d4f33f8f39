"""Runs in Blender: an object in the scene that carries a made-up view grid, as one imported from a finished job does."""

import math

import bpy
import made_up
from mathutils import Euler


def finished_asset(stage, regions: int = 36, *, uuid: str = "made-up", prompt: str = "a bronze monkey"):
    """Add an object 1 m tall whose custom properties hold a grid of so many regions; it is selected."""
    bpy.ops.object.select_all(action="DESELECT")
    bpy.ops.mesh.primitive_monkey_add(size=1.0, location=(0, 0, 0.5))
    asset = bpy.context.active_object
    asset.name = prompt
    for polygon in asset.data.polygons:
        polygon.use_smooth = True
    asset["cograd3d"] = made_up.metadata(stage.module, regions, uuid=uuid, prompt=prompt)
    return asset


def empty_scene():
    """Remove the cube, the lamp and the camera."""
    for thing in list(bpy.data.objects):
        bpy.data.objects.remove(thing)


def look_from(stage, azimuth: float = 25.0, elevation: float = 20.0, distance: float = 9.0, height: float = 0.5):
    """Turn the viewport, in perspective, towards the middle of the asset; angles in degrees."""
    view = stage.area.spaces.active.region_3d
    view.view_perspective = "PERSP"
    view.view_rotation = Euler((math.radians(90 - elevation), 0, math.radians(azimuth))).to_quaternion()
    view.view_location, view.view_distance = (0, 0, height), distance
