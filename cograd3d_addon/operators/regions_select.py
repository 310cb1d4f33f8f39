"""Selecting view regions: one, many, the worst, and the menu of the one below the mouse."""

import math

import bpy
from bpy.props import BoolProperty, EnumProperty, IntProperty

from ..viewport import gizmos, looking, sources
from ..viewport.measures import LAGGING
from .region_operator import description_of, selection_changed, shown
from .regions_steer import ACTION_ICONS, ACTIONS

SELECTIONS = (
    ("ALL", "All", "Every view"),
    ("NONE", "None", "No view"),
    ("LAGGING", "Lagging", "The quarter of the views that needs work most, by the measure that is shown"),
)
STEPS = (
    ("WORST", "Worst", "The view that needs work most, by the measure that is shown"),
    ("NEXT", "Next Worse", "The one that comes after the selected one in that order"),
    ("PREVIOUS", "Previous", "The one that comes before the selected one in that order"),
)


class COGRAD3D_OT_region_select(bpy.types.Operator):
    """Select a view region. Shift adds it to those selected"""

    bl_idname = "cograd3d.region_select"
    bl_label = "Select View"
    bl_options = {"INTERNAL"}

    region: IntProperty(name="View", description="Number of the view region", default=-1)
    extend: BoolProperty(name="Extend", description="Keep what is selected", default=False, options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context):
        return shown(cls, context) is not None

    def invoke(self, context, event):
        self.extend = event.shift
        return self.execute(context)

    def execute(self, context):
        view = sources.require(context)
        if not 0 <= self.region < len(view):
            self.report({"ERROR"}, f"There is no view {self.region}: they are numbered from 0 to {len(view) - 1}.")
            return {"CANCELLED"}
        sources.selected(view).click(self.region, extend=self.extend)
        selection_changed()
        return {"FINISHED"}


class COGRAD3D_OT_region_select_all(bpy.types.Operator):
    """Select many views at once"""

    bl_idname = "cograd3d.region_select_all"
    bl_label = "Select Views"
    bl_options = {"INTERNAL"}

    action: EnumProperty(
        name="Which",
        description="Which views to select",
        items=SELECTIONS,
        default="LAGGING",
    )

    @classmethod
    def description(cls, context, properties):
        return description_of(SELECTIONS, properties.action)

    @classmethod
    def poll(cls, context):
        return shown(cls, context) is not None

    def execute(self, context):
        view = sources.require(context)
        worst = view.worst_first(sources.measure(context))
        regions = {"ALL": range(len(view)), "NONE": (), "LAGGING": worst[: math.ceil(LAGGING * len(view))].tolist()}[self.action]
        sources.selected(view).set(regions, active=int(worst[0]) if self.action == "LAGGING" else None)
        selection_changed()
        return {"FINISHED"}


class COGRAD3D_OT_region_step(bpy.types.Operator):
    """Go from view to view, those that need work most first"""

    bl_idname = "cograd3d.region_step"
    bl_label = "Step to View"
    bl_options = {"INTERNAL"}

    to: EnumProperty(
        name="To",
        description="Which view to go to",
        items=STEPS,
        default="WORST",
    )

    @classmethod
    def description(cls, context, properties):
        return description_of(STEPS, properties.to)

    @classmethod
    def poll(cls, context):
        return shown(cls, context) is not None

    def execute(self, context):
        view = sources.require(context)
        order = view.worst_first(sources.measure(context)).tolist()
        chosen = sources.selected(view)
        step = {"WORST": None, "NEXT": 1, "PREVIOUS": -1}[self.to]
        place = 0 if step is None or chosen.active < 0 else (order.index(chosen.active) + step) % len(order)
        follows = context.area is not None and context.region_data is not None and looking.looked_through(context, view) >= 0
        chosen.set((order[place],))
        if follows:
            looking.look_through(context, view, chosen.active)
        selection_changed()
        return {"FINISHED"}


class COGRAD3D_MT_region(bpy.types.Menu):
    """What can be done with the selected views"""

    bl_idname = "COGRAD3D_MT_region"
    bl_label = "View"

    def draw(self, context):
        layout = self.layout
        layout.operator("cograd3d.region_look_through", icon="HIDE_OFF")
        layout.operator("cograd3d.region_look_back", icon="LOOP_BACK")
        layout.operator("cograd3d.region_camera", icon="OUTLINER_OB_CAMERA")
        layout.separator()
        view = sources.shown(context)
        if view is not None and view.live:
            for action, label, _ in ACTIONS:
                layout.operator("cograd3d.region_weight", text=label, icon=ACTION_ICONS[action]).action = action
        else:
            layout.operator("cograd3d.region_refine", icon="MOD_SMOOTH")
        layout.separator()
        for action, label, _ in SELECTIONS:
            layout.operator("cograd3d.region_select_all", text=f"Select {label}").action = action


class COGRAD3D_OT_region_menu(bpy.types.Operator):
    """What can be done with the view below the mouse"""

    bl_idname = "cograd3d.region_menu"
    bl_label = "View Menu"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context):
        return shown(cls, context) is not None

    def execute(self, context):
        view, region = sources.require(context), gizmos.hovered(context)
        chosen = sources.selected(view)
        if 0 <= region < len(view) and region not in chosen.regions:
            chosen.click(region)
            selection_changed()
        bpy.ops.wm.call_menu(name=COGRAD3D_MT_region.bl_idname)
        return {"FINISHED"}


CLASSES = (COGRAD3D_OT_region_select, COGRAD3D_OT_region_select_all, COGRAD3D_OT_region_step, COGRAD3D_MT_region, COGRAD3D_OT_region_menu)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
