"""Viewports that look through a view when the extension is disabled, another file is opened, or this one is saved."""

from __future__ import annotations

import bpy
import numpy as np
import pytest
from mathutils import Quaternion

from tests.blender.extension_zip import EXTENSION

ops = bpy.ops.cograd3d


@pytest.fixture
def place(viewport):
    """Where the viewport is, and with which lens; asked anew, since a file may bring other viewports."""

    def place() -> list[float]:
        area = next(area for area in bpy.context.window_manager.windows[0].screen.areas if area.type == "VIEW_3D")
        space = area.spaces.active
        view = space.region_3d
        return [*view.view_location, *view.view_rotation, view.view_distance, space.lens]

    return place


@pytest.fixture
def before(viewport, asset, place):
    """Where the viewport was before it looked through a view, as it does now."""
    viewport.space.lens, viewport.view.view_distance = 37.0, 7.0
    before = place()
    ops.region_select(region=13)
    ops.region_look_through()
    assert not np.allclose(place(), before, atol=1e-2)
    return before


def disable() -> None:
    bpy.ops.preferences.addon_disable(module=EXTENSION)


def test_disabling_gives_the_viewport_back(before, place):
    disable()
    np.testing.assert_allclose(place(), before, atol=1e-5)


def test_disabling_leaves_a_viewport_where_the_user_turned_it(viewport, before, place):
    """But for its lens, which the user did not choose."""
    viewport.view.view_rotation = viewport.view.view_rotation @ Quaternion((0, 1, 0), 0.4)
    here = [*place()[:-1], 37.0]
    disable()
    np.testing.assert_allclose(place(), here, atol=1e-5)


def test_disabling_gives_a_viewport_back_that_another_editor_covers(viewport, before, place):
    area = next(area for area in bpy.context.screen.areas if area.type == "VIEW_3D")
    with bpy.context.temp_override(area=area):
        area.type = "TEXT_EDITOR"
        disable()
        area.type = "VIEW_3D"
    np.testing.assert_allclose(place(), before, atol=1e-5)


def test_a_file_opened_in_the_same_windows_has_the_viewport_back(before, place, tmp_path):
    """Load UI switched off: the viewports stay, and what one of them looked through does not."""
    file = str(tmp_path / "file.blend")
    bpy.ops.wm.save_as_mainfile(filepath=file, copy=True)
    try:
        bpy.ops.wm.open_mainfile(filepath=file, load_ui=False)
        np.testing.assert_allclose(place(), before, atol=1e-5)
    finally:
        bpy.ops.wm.open_mainfile(filepath=file, load_ui=True)  # Blender keeps to that for all files that are opened afterwards


def test_disabling_leaves_the_viewports_of_another_file_alone(before, place, tmp_path):
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    here = place()
    disable()
    np.testing.assert_allclose(place(), here, atol=1e-5)


class TestSaving:
    def test_a_file_has_the_viewport_as_it_was_before(self, before, place, tmp_path):
        """Who opens it would find no way back."""
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "file.blend"))
        bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "file.blend"))
        np.testing.assert_allclose(place(), before, atol=1e-5)

    def test_the_viewport_looks_on(self, viewport, before, place, tmp_path):
        through = place()
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "file.blend"))
        np.testing.assert_allclose(place(), through, atol=1e-5)
        ops.region_look_back()
        np.testing.assert_allclose(place(), before, atol=1e-5)

    def test_also_where_it_cannot_be_saved(self, before, place, tmp_path):
        through = place()
        with pytest.raises(RuntimeError):
            bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "none" / "file.blend"))
        np.testing.assert_allclose(place(), through, atol=1e-5)
