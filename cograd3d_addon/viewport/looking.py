"""Looking through a region's camera in a viewport, and back to where the viewport was. The scene's cameras are not touched."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np
from bpy.app.handlers import persistent

from .grid_view import GridView
from .look import ViewpointState, camera_at, looks_through, picture_side, viewpoint


@dataclass(frozen=True)
class _Visit:
    """A viewport that was sent to look through a region.

    Attributes:
        before: where it was.
        lens: that it was given there, as Blender keeps it.
        camera: [4, 4] where it was sent.
        source, region: what it was to look through.
    """

    before: ViewpointState
    lens: float
    camera: np.ndarray
    source: str
    region: int


_visits: dict[int, _Visit] = {}
"""By the address of the viewport's space (never followed, only compared). A maximised viewport keeps its space, but not its area."""

_away: dict[int, ViewpointState] = {}
"""Where viewports are that look through a region, by the same address, while a file is saved."""


def look_through(context: bpy.types.Context, view: GridView, region: int) -> None:
    """Send the viewport to the camera of a region; where it was before the first of several such visits in a row is remembered."""
    space, view3d, viewport = context.space_data, context.region_data, context.region
    before = _before(space, view3d)
    size = (viewport.width, viewport.height)
    side = picture_side(size, free_area(context))
    camera = view.cameras[region]
    _apply(space, view3d, viewpoint(camera, view.centre, view.fov, size, side))
    _visits[space.as_pointer()] = _Visit(before, space.lens, camera, view.source, region)


def can_return(context: bpy.types.Context) -> bool:
    """Whether the viewport was sent to a region and not yet back."""
    return context.space_data is not None and context.space_data.as_pointer() in _visits


def back(context: bpy.types.Context) -> None:
    """Bring the viewport back to where it was."""
    _apply(context.space_data, context.region_data, _visits.pop(context.space_data.as_pointer()).before)


def looked_through(context: bpy.types.Context, view: GridView) -> int:
    """The region that the viewport looks through, -1 if it does not, or was turned away since."""
    visit = _visits.get(context.space_data.as_pointer())
    if visit is None or visit.source != view.source or visit.region >= len(view):
        return -1
    return visit.region if _is_at(context.region_data, view.cameras[visit.region]) else -1


@persistent
def give_back(*_: Any) -> None:
    """Bring every viewport back that was sent to a region. One that the user has turned away since only gets its lens back."""
    for area, space in _visiting():
        _apply(space, space.region_3d, _before(space, space.region_3d))
        area.tag_redraw()
    _visits.clear()


@persistent
def forget_all(*_: Any) -> None:
    """Forget where viewports were."""
    _visits.clear()


def free_area(context: bpy.types.Context) -> tuple[float, float, float, float]:
    """(left, bottom, right, top) of a viewport in its own pixels, without what its panels and bars cover."""
    viewport = context.region
    left, bottom, right, top = 0, 0, viewport.width, viewport.height
    for other in context.area.regions:
        if other.type in ("WINDOW", "HUD") or other.width <= 1 or other.height <= 1:
            continue
        x, y = other.x - viewport.x, other.y - viewport.y
        if other.alignment == "RIGHT":
            right = min(right, x)
        elif other.alignment == "LEFT":
            left = max(left, x + other.width)
        elif other.alignment == "BOTTOM":
            bottom = max(bottom, y + other.height)
        elif other.alignment == "TOP":
            top = min(top, y)
    return left, bottom, right, top


def _before(space: bpy.types.SpaceView3D, view3d: bpy.types.RegionView3D) -> ViewpointState:
    """Where the viewport is to return to: where it is now, unless it is on a visit already.

    Turned away by hand it is where the user wants it, but for the lens, which still is the visit's.
    """
    visit, now = _visits.get(space.as_pointer()), _captured(space, view3d)
    if visit is None:
        return now
    if _is_at(view3d, visit.camera):
        return visit.before
    return dataclasses.replace(now, lens=visit.before.lens) if math.isclose(now.lens, visit.lens) else now


def _is_at(view3d: bpy.types.RegionView3D, camera: np.ndarray) -> bool:
    """Whether a viewport stands where this camera does."""
    # Not `view_matrix`, which follows these only when the viewport is drawn the next time.
    place = camera_at(view3d.view_location, view3d.view_rotation.to_matrix(), view3d.view_distance)
    return view3d.view_perspective == "PERSP" and looks_through(np.linalg.inv(place), camera)


def _captured(space: bpy.types.SpaceView3D, view3d: bpy.types.RegionView3D) -> ViewpointState:
    return ViewpointState(
        location=tuple(view3d.view_location),
        rotation=tuple(view3d.view_rotation),
        distance=view3d.view_distance,
        lens=space.lens,
        perspective=view3d.view_perspective,
        camera_zoom=view3d.view_camera_zoom,
        camera_offset=tuple(view3d.view_camera_offset),
        is_along_axis=view3d.is_orthographic_side_view,
    )


def _apply(space: bpy.types.SpaceView3D, view3d: bpy.types.RegionView3D, state: ViewpointState) -> None:
    # The perspective first: in a camera view with the camera locked to it, the rest would move the scene's camera.
    if view3d.view_perspective == "CAMERA":
        view3d.view_perspective = "PERSP"
    view3d.is_orthographic_side_view = False
    space.lens = state.lens
    view3d.view_location = state.location
    view3d.view_rotation = state.rotation
    view3d.view_distance = state.distance
    if state.perspective == "CAMERA":
        view3d.view_camera_zoom = state.camera_zoom
        view3d.view_camera_offset = state.camera_offset
    view3d.view_perspective = state.perspective
    if state.is_along_axis:  # last: it also turns the view to the nearest axis
        view3d.is_orthographic_side_view = True


def _visiting() -> Iterator[tuple[bpy.types.Area, bpy.types.SpaceView3D]]:
    """The viewports that were sent to a region, each with its area, which by now may show another editor."""
    for screen in bpy.data.screens if _visits else ():
        for area in screen.areas:
            yield from ((area, space) for space in area.spaces if space.type == "VIEW_3D" and space.as_pointer() in _visits)


@persistent
def _before_saving(*_: Any) -> None:
    """The file is to have the viewports as they are without us: whoever opens it finds no way back."""
    for _area, space in _visiting():
        _away[space.as_pointer()] = _captured(space, space.region_3d)
        _apply(space, space.region_3d, _before(space, space.region_3d))


@persistent
def _after_saving(*_: Any) -> None:
    """Nothing was drawn meanwhile: the user has not noticed."""
    for _area, space in _visiting():
        if (state := _away.get(space.as_pointer())) is not None:
            _apply(space, space.region_3d, state)
    _away.clear()


_HANDLERS = {
    "load_pre": give_back,  # without its windows, a file may be opened into viewports that stay, and what they look at is gone
    "load_post": forget_all,  # else the other file's viewports are others, some at the same addresses
    "save_pre": _before_saving,
    "save_post": _after_saving,
    "save_post_fail": _after_saving,
}


def register() -> None:
    """Follow the opening and saving of files."""
    for name, function in _HANDLERS.items():
        getattr(bpy.app.handlers, name).append(function)


def unregister() -> None:
    """Undo `register`; the viewports are where the user had them, since nothing else could bring them back any more."""
    for name, function in _HANDLERS.items():
        functions = getattr(bpy.app.handlers, name)
        if function in functions:
            functions.remove(function)
    give_back()
