"""What the operators on view regions have in common: when they can be used, and what follows a change of the selection."""

import contextlib
import time
from collections.abc import Sequence

import bpy

from ...backend.errors import CoGradError
from .. import session
from ..viewport import sources
from ..viewport.grid_view import GridView
from ..viewport.pictures import PictureRequests

_pictures = PictureRequests()


def shown(cls: type[bpy.types.Operator], context: bpy.types.Context) -> GridView | None:
    """The shown grid; without one the reason is given to the button."""
    view = sources.shown(context)
    if view is None:
        cls.poll_message_set("There are no views to show: start a job, or select a generated object")
    return view


def standing(cls: type[bpy.types.Operator], context: bpy.types.Context) -> GridView | None:
    """The shown grid if it stands in the open scene, so that there is something to look at; else the reason is given to the button."""
    view = shown(cls, context)
    if view is None or view.stands:
        return view
    if view.job is not None and not view.job.status.is_over:
        cls.poll_message_set("The asset is being made in another scene: go there to see its views")
    else:
        cls.poll_message_set("The asset is not in this scene: import the job's result first")
    return None


def with_selection(cls: type[bpy.types.Operator], context: bpy.types.Context) -> GridView | None:
    """The shown grid if some of its regions are selected; else the reason is given to the button."""
    view = shown(cls, context)
    if view is not None and not sources.selected(view).regions:
        cls.poll_message_set("Select a view first: click one of the little cameras")
        return None
    return view


def in_viewport(cls: type[bpy.types.Operator], context: bpy.types.Context) -> bool:
    """Whether the operator was called in a 3D viewport whose view can be turned."""
    space, view3d = context.space_data, context.region_data
    if space is None or space.type != "VIEW_3D" or view3d is None:
        cls.poll_message_set("Works in a 3D viewport")
        return False
    if view3d.lock_rotation:
        cls.poll_message_set("The view is locked: leave the quad view first")
        return False
    if space.lock_object is not None or space.lock_cursor:
        cls.poll_message_set("The view is locked to something: unlock it in the sidebar's View tab")
        return False
    return True


def description_of(items: Sequence[tuple[str, str, str]], chosen: str) -> str:
    """The tooltip of a button that does what one item of an EnumProperty says."""
    return next(description for identifier, _, description in items if identifier == chosen)


def request_picture() -> None:
    """Have the worker paint the active region's picture, if it is time for it. Called after clicks, and by the session now and then."""
    view = sources.shown(bpy.context)
    if view is None or not view.live or view.job is None:
        return
    region = sources.selected(view).active
    if region >= 0 and _pictures.is_due(view.source, region, view.regions.iteration, time.monotonic()):
        session.manager().request_preview(view.job, region)


def selection_changed() -> None:
    """Show it."""
    session.redraw()
    with contextlib.suppress(CoGradError):  # the worker has just ended; the pictures that it leaves at its end are shown instead
        request_picture()
