"""Which grid is shown now, and how: from the session, the active object, the interface's settings and the preferences."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import bpy
import numpy as np
from bpy.app.handlers import persistent

from .. import importing, session
from ..importing import metadata, standing
from ..package import preferences
from . import measures, selection
from .colours import Ramp
from .focus import Focus
from .glyphs import Style, region_colours
from .grid_view import GridView, GridViews

CAMERA = "cograd3d_view"
"""The custom property of a camera that was made from a view of such an object."""

views = GridViews()
"""The one maker of grid views."""

_focus: defaultdict[int, Focus] = defaultdict(Focus)
"""By the address of the window (never followed, only compared): each can show another scene, and has an active object of its own."""

_styles: dict[tuple, Style] = {}
_colours = functools.lru_cache(maxsize=8)(region_colours)


def shown(context: bpy.types.Context) -> GridView | None:
    """The grid that the viewports and the panel show, None if there is none. The same object as long as nothing changed."""
    job = session.selected_job()
    if job is None:
        job = next(iter(session.manager().running), None)
    thing = asset(context)
    focus = _focus[context.window.as_pointer() if context.window is not None else 0]
    key = "" if thing is None else str(thing.session_uid)  # a duplicate has the same uuid
    chosen = session.chosen_job()  # one that nobody chose does not take an object's place
    if focus.shows_object("" if chosen is None else chosen.id, key) and thing is not None:
        standing.turn_to(thing, context.scene)
        return _of_object(thing, context.scene)
    if job is None:
        return None
    place = standing.standing(job, context.scene)
    return views.of_job(job, place.matrix, stands=place.is_here, owner=place.thing.name if place.thing is not None else "")


def _of_object(thing: bpy.types.Object, scene: bpy.types.Scene) -> GridView | None:
    data = thing[metadata.KEY]
    own = session.manager().get(str(data.get("job", "")))
    frame, stands = importing.world_frame(thing), standing.is_in(thing, scene)
    # With its job still there the object's grid has pictures, a history and whatever else the folder holds.
    view = views.of_job(own, frame, stands=stands, owner=thing.name) if own is not None and not own.status.is_live else None
    return view or views.of_metadata(data, frame, stands=stands, owner=thing.name)


def drawn(context: bpy.types.Context) -> GridView | None:
    """The shown grid if it stands in the open scene. The panel shows others too: an old job's, and one that runs in another scene."""
    view = shown(context)
    return view if view is not None and view.stands else None


def require(context: bpy.types.Context) -> GridView:
    """The shown grid, for what is called only where `poll` has seen one."""
    view = shown(context)
    assert view is not None
    return view


def asset(context: bpy.types.Context) -> bpy.types.Object | None:
    """The selected active object if it carries a grid, or if it is a camera that was made from one, the object that does."""
    active = context.active_object
    if active is None or not active.select_get():
        return None
    if importing.is_result(active):
        return active
    made_of = _group(active, CAMERA)
    thing = bpy.data.objects.get(str(made_of.get("object", "")))
    return thing if importing.is_result(thing) and thing[metadata.KEY].get("uuid") == made_of.get("uuid") else None


def _group(thing: bpy.types.Object, name: str) -> Mapping[str, Any]:
    """A group of custom properties, empty if there is none or somebody else uses the name for something else."""
    value = thing.get(name)
    return value if hasattr(value, "get") else {}


def mark_camera(camera: bpy.types.Object, owner: bpy.types.Object) -> None:
    """Have the owner's grid shown while this camera, which was made from it, is the active object. A name, not a pointer: that would keep
    the owner in the file after it was deleted.
    """
    camera[CAMERA] = {"object": owner.name, "uuid": owner[metadata.KEY].get("uuid", "")}


def measure(context: bpy.types.Context) -> measures.Measure:
    """The measure that the user chose."""
    return measures.measure(context.window_manager.cograd3d.measure)


def selected(view: GridView) -> selection.Selection:
    """The selection in this grid, without regions that it does not have."""
    chosen = selection.of(view.source)
    chosen.limit(len(view))
    return chosen


def style(context: bpy.types.Context) -> Style:
    """Colours and size as the preferences and the theme have them; the same object as long as they stay."""
    prefs = preferences(context)
    highlight = tuple(context.preferences.themes[0].user_interface.gizmo_hi)
    custom = (tuple(prefs.colour_low), tuple(prefs.colour_high)) if prefs.colour_scale == "CUSTOM" else ()
    key = (prefs.colour_scale, custom, prefs.frustum_size, highlight)
    if key not in _styles:
        _styles.clear()
        ramp = Ramp(custom) if custom else Ramp.named(prefs.colour_scale)
        _styles[key] = Style(ramp, prefs.frustum_size, highlight)
    return _styles[key]


def colours(context: bpy.types.Context, view: GridView) -> np.ndarray:
    """[N, 3] display colours of the regions."""
    return _colours(view, measure(context), style(context).ramp)


def visible(context: bpy.types.Context) -> bool:
    """Whether this viewport wants to show the grid at all."""
    space = context.space_data
    return (
        space is not None
        and space.type == "VIEW_3D"
        and context.mode == "OBJECT"
        and space.show_gizmo
        and space.overlay.show_overlays
        and context.window_manager.cograd3d.show_regions
    )


@persistent
def _on_load(*_: Any) -> None:
    _focus.clear()
    standing.forget()


@persistent
def _after_undo(*_: Any) -> None:
    standing.forget()


_HANDLERS = {"load_post": _on_load, "undo_post": _after_undo, "redo_post": _after_undo}


def register() -> None:
    """Notice when what is shown may have come or gone."""
    for name, handler in _HANDLERS.items():
        getattr(bpy.app.handlers, name).append(handler)


def unregister() -> None:
    """Undo `register`, and let go of what was shown."""
    for name, handler in _HANDLERS.items():
        functions = getattr(bpy.app.handlers, name)
        if handler in functions:
            functions.remove(handler)
    _focus.clear()
    _colours.cache_clear()
    views.clear()
    _styles.clear()
    GridView.values.cache_clear()
    standing.forget()
