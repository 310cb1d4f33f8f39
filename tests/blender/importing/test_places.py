"""Where the object of a finished job stands: at the cursor, in a placeholder, where it was ordered."""

from __future__ import annotations

import math

import bpy
import numpy as np
import pytest

from tests.blender.importing.contents import import_again
from tests.blender.importing.geometry import bounds, corners_in_scene, make_box


def test_stands_on_the_ground_at_the_cursor_as_high_as_set(job):
    bpy.context.scene.cursor.location = (1.0, 2.0, 3.0)
    bpy.context.scene.cograd3d.height = 0.4
    thing = import_again(job)
    low, high = bounds(thing)
    assert thing.location[:] == (1.0, 2.0, 3.0)
    assert thing.scale[:] == (1.0, 1.0, 1.0), "real size, not a scaled object"
    assert low[2] == pytest.approx(3.0, abs=1e-5) and high[2] == pytest.approx(3.4, abs=1e-5)
    np.testing.assert_allclose((low + high)[:2] / 2, (1.0, 2.0), atol=1e-5)


def test_fills_the_placeholder(job):
    box = make_box("Box", location=(5.0, 0.0, 1.0), scale=(3.0, 0.5, 1.0), rotation_euler=(0.0, 0.0, math.radians(30)))
    bpy.context.scene.cograd3d.fit_object = box
    thing = import_again(job)
    bpy.context.view_layer.update()
    inside = corners_in_scene(thing) @ np.linalg.inv(np.array(box.matrix_world))[:3, :3].T
    inside += np.linalg.inv(np.array(box.matrix_world))[:3, 3]
    extents = np.ptp(inside, axis=0)
    assert (np.abs(inside) <= 1 + 1e-4).all(), "it stands out"
    assert extents.max() == pytest.approx(2.0, abs=1e-4), "it could be larger"
    assert inside[:, 2].min() == pytest.approx(-1.0, abs=1e-4), "it does not stand on the bottom"
    assert np.abs(inside.min(axis=0) + inside.max(axis=0))[:2].max() < 1e-4, "it does not stand in the middle"


def test_fills_an_empty_as_large_as_it_is_drawn(job):
    empty = bpy.data.objects.new("Empty", None)
    empty.empty_display_type, empty.empty_display_size, empty.location = "CUBE", 0.25, (0.0, 0.0, 2.0)
    bpy.context.scene.collection.objects.link(empty)
    bpy.context.view_layer.update()
    bpy.context.scene.cograd3d.fit_object = empty
    low, high = bounds(import_again(job))
    assert low[2] == pytest.approx(1.75, abs=1e-5) and (high - low).max() == pytest.approx(0.5, abs=1e-5)


def test_a_placeholder_that_was_deleted(job):
    box = make_box("Box", location=(5.0, 0.0, 1.0))
    bpy.context.scene.cograd3d.fit_object = box
    bpy.context.scene.collection.objects.unlink(box)  # the settings still hold it
    assert import_again(job).location[:] == (0.0, 0.0, 0.0)


def test_stands_where_it_was_ordered(job, addon_module):
    bpy.context.scene.cursor.location = (1.0, 2.0, 3.0)
    bpy.context.scene.cograd3d.height = 0.5
    order = addon_module("importing").order_for(bpy.context.scene)
    addon_module("..backend.files").atomic_write_json(job.path / "blender.json", order)
    bpy.context.scene.cursor.location = (0.0, 0.0, 0.0)
    bpy.context.scene.cograd3d.height = 7.0
    thing = import_again(job)
    assert thing.location[:] == (1.0, 2.0, 3.0) and thing.dimensions.z == pytest.approx(0.5, abs=1e-5)


def test_stands_by_the_settings_of_another_scene(job, addon_module):
    """A placeholder of the same name, say, is another one there."""
    bpy.context.scene.cograd3d.fit_object = make_box("Box")
    order = addon_module("importing").order_for(bpy.context.scene)
    addon_module("..backend.files").atomic_write_json(job.path / "blender.json", order)
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    make_box("Box", location=(9.0, 9.0, 9.0))
    bpy.context.scene.cursor.location, bpy.context.scene.cograd3d.height = (1.0, 2.0, 3.0), 0.25
    thing = import_again(job)
    assert thing.location[:] == (1.0, 2.0, 3.0) and thing.dimensions.z == pytest.approx(0.25, abs=1e-5)


def test_an_order_that_cannot_be_read_counts_as_none(job):
    (job.path / "blender.json").write_text('{"origin": "here"')
    assert import_again(job).location[:] == (0.0, 0.0, 0.0)
