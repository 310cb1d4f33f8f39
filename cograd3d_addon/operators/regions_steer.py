"""Steering by view regions: weights for a job that runs, a refining job after its end."""

import bpy
from bpy.props import EnumProperty, FloatProperty, IntProperty

from ...backend import refinement
from ...backend.errors import CoGradError
from .. import session, setup
from ..jobs import Job
from ..viewport import sources
from ..viewport.grid_view import GridView
from .ordering import order, report
from .region_operator import description_of, request_picture, with_selection

ACTIONS = (
    ("BOOST", "Boost", "Work on the selected views four times as often"),
    ("CALM", "Calm", "Work on the selected views a quarter as often"),
    ("FREEZE", "Freeze", "Leave the selected views alone"),
    ("RESET", "Reset", "Work on the selected views as often as the method thinks best"),
)
ACTION_ICONS = {"BOOST": "ADD", "CALM": "REMOVE", "FREEZE": "FREEZE", "RESET": "LOOP_BACK"}
WEIGHTS = {"BOOST": 4.0, "CALM": 0.25, "FREEZE": 0.0, "RESET": 1.0}


def _view_and_job(context: bpy.types.Context) -> tuple[GridView, Job]:
    """The shown grid and its job, where `poll` has seen both."""
    view = sources.require(context)
    assert view.job is not None
    return view, view.job


class COGRAD3D_OT_region_weight(bpy.types.Operator):
    """Tell the running job how often to work on the selected views"""

    bl_idname = "cograd3d.region_weight"
    bl_label = "Weigh Views"
    bl_options = {"INTERNAL"}

    action: EnumProperty(
        name="How",
        description="How often to work on the selected views",
        items=ACTIONS,
        default="BOOST",
    )

    @classmethod
    def description(cls, context, properties):
        return description_of(ACTIONS, properties.action)

    @classmethod
    def poll(cls, context):
        view = with_selection(cls, context)
        if view is None:
            return False
        if view.live and view.job is not None:
            return True
        if view.job is not None and not view.job.status.is_over:
            cls.poll_message_set("The views are not being worked on now: wait until the mesh is there, then use Refine")
        else:
            cls.poll_message_set("The job does not run any more: use Refine to work on these views again")
        return False

    def execute(self, context):
        view, job = _view_and_job(context)
        regions, factor = sorted(sources.selected(view).regions), WEIGHTS[self.action]
        try:
            session.manager().set_weights(job, regions, factor)
        except CoGradError as error:
            return report(self, error)
        sources.views.wish(view, regions, factor)
        session.redraw()
        return {"FINISHED"}


class COGRAD3D_OT_region_refine(bpy.types.Operator):
    """Go on with a finished job, mostly at the selected views. The new mesh takes the place of the old one"""

    bl_idname = "cograd3d.region_refine"
    bl_label = "Refine Views"
    bl_options = {"INTERNAL"}

    factor: FloatProperty(
        name="Strength",
        description="How many times as often as the others the selected views are worked on",
        default=4.0,
        min=1.0,
        soft_max=16.0,
    )
    iterations: IntProperty(
        name="Steps", description="How many steps to take. 0: as many as suit the quality", default=0, min=0, soft_max=5000
    )

    @classmethod
    def poll(cls, context):
        view = with_selection(cls, context)
        if view is None:
            return False
        if view.job is None:
            cls.poll_message_set("The job that made this object is no longer on this computer")
            return False
        if not view.job.status.is_over:
            cls.poll_message_set("The job has not ended yet: " + ("use Boost" if view.live else "wait until the mesh is there"))
            return False
        if not view.job.folder.splats_path.is_file():
            cls.poll_message_set("The job has no result to begin with")
            return False
        if problem := setup.problem():
            cls.poll_message_set(problem[0].rstrip("."))
            return False
        return True

    def invoke(self, context, event):
        return context.window_manager.invoke_props_dialog(self)

    def execute(self, context):
        view, old = _view_and_job(context)
        regions = sorted(sources.selected(view).regions)
        try:
            spec, config = refinement.refine(old.folder, regions, factor=self.factor, iterations=self.iterations or None)
            # The old place counts if the object that is to be replaced is not there by then.
            order(context, spec, config, like=old.path, improves=view.owner)
        except CoGradError as error:
            return report(self, error)
        return {"FINISHED"}


CLASSES = (COGRAD3D_OT_region_weight, COGRAD3D_OT_region_refine)


def register():
    """Add the operators; the active region's picture is renewed while its job runs."""
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    session.subscribe_tick(request_picture)


def unregister():
    """Undo `register`."""
    session.unsubscribe_tick(request_picture)
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
