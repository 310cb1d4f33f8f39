"""Looking through view regions and back, framing all of them, and making a camera of one."""

import math

import bpy
from bpy.props import BoolProperty
from mathutils import Matrix, Vector

from ..viewport import looking, sources
from ..viewport.region_names import capitalised
from .region_operator import in_viewport, standing, with_selection


class COGRAD3D_OT_region_look_through(bpy.types.Operator):
    """See the asset from this view, just as the optimiser does. The scene's camera stays as it is"""

    bl_idname = "cograd3d.region_look_through"
    bl_label = "Look Through"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context):
        return in_viewport(cls, context) and standing(cls, context) is not None and with_selection(cls, context) is not None

    def execute(self, context):
        view = sources.require(context)
        looking.look_through(context, view, sources.selected(view).active)
        context.area.tag_redraw()
        return {"FINISHED"}


class COGRAD3D_OT_region_look_back(bpy.types.Operator):
    """Bring the viewport back to where it was before it looked through a view"""

    bl_idname = "cograd3d.region_look_back"
    bl_label = "Look Back"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context):
        if not in_viewport(cls, context):
            return False
        if not looking.can_return(context):
            cls.poll_message_set("The viewport does not look through a view")
            return False
        return True

    def execute(self, context):
        looking.back(context)
        context.area.tag_redraw()
        return {"FINISHED"}


class COGRAD3D_OT_region_focus(bpy.types.Operator):
    """Show the asset and all views around it"""

    bl_idname = "cograd3d.region_focus"
    bl_label = "Frame Views"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context):
        return in_viewport(cls, context) and standing(cls, context) is not None

    def execute(self, context):
        view = sources.require(context)
        view3d = context.region_data
        if view3d.view_perspective == "CAMERA":
            view3d.view_perspective = "PERSP"
        radius = max(math.dist(camera[:3, 3], view.centre) for camera in view.cameras)
        viewport = context.region
        half = 36.0 / context.space_data.lens * min(viewport.width, viewport.height) / max(viewport.width, viewport.height)
        view3d.view_location = Vector(view.centre)
        view3d.view_distance = 1.15 * radius * math.sqrt(1 + 1 / half**2)
        context.area.tag_redraw()
        return {"FINISHED"}


class COGRAD3D_OT_region_camera(bpy.types.Operator):
    """Make a camera where the selected view is, that sees what the view sees"""

    bl_idname = "cograd3d.region_camera"
    bl_label = "Make Camera"
    bl_options = {"REGISTER", "UNDO"}

    make_active: BoolProperty(name="Use for Rendering", description="Make it the scene's camera", default=False)
    square: BoolProperty(
        name="Square Picture", description="Set the scene's render resolution to a square, as the view's picture is", default=False
    )

    @classmethod
    def poll(cls, context):
        if context.mode != "OBJECT":
            cls.poll_message_set("Works in object mode")
            return False
        return standing(cls, context) is not None and with_selection(cls, context) is not None

    def execute(self, context):
        view = sources.require(context)
        region = sources.selected(view).active
        render = context.scene.render
        active = context.collection
        collection = context.scene.collection if active.library or active.override_library else active
        if self.square:
            render.resolution_x = render.resolution_y = max(render.resolution_x, render.resolution_y)
            render.pixel_aspect_x = render.pixel_aspect_y = 1.0
        data = bpy.data.cameras.new(capitalised(view.names[region]))
        data.sensor_width = data.sensor_height = 36.0
        # The whole square is to be in the picture, whatever shape that has.
        wide = render.resolution_x * render.pixel_aspect_x >= render.resolution_y * render.pixel_aspect_y
        data.sensor_fit = "VERTICAL" if wide else "HORIZONTAL"
        data.lens = data.sensor_height / 2 / math.tan(math.radians(view.fov) / 2)
        matrix = view.cameras[region]
        distance = float(math.dist(matrix[:3, 3], view.centre))
        data.clip_start = min(data.clip_start, distance / 100)
        data.clip_end = max(data.clip_end, distance * 10)
        data.display_size = distance / 10
        camera = bpy.data.objects.new(data.name, data)
        camera.matrix_world = Matrix(matrix.tolist())
        collection.objects.link(camera)
        if view.owner:
            sources.mark_camera(camera, bpy.data.objects[view.owner])
        for other in context.selected_objects:
            other.select_set(False)
        camera.select_set(True)
        context.view_layer.objects.active = camera
        if self.make_active:
            context.scene.camera = camera
        return {"FINISHED"}


CLASSES = (COGRAD3D_OT_region_look_through, COGRAD3D_OT_region_look_back, COGRAD3D_OT_region_focus, COGRAD3D_OT_region_camera)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
