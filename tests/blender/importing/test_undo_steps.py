"""What one undo takes back of an import."""

from __future__ import annotations

import bpy
import numpy as np

from tests.blender.importing.contents import KINDS, counts, image_of, paint, shown_by


def test_one_step_removes_it_all(job):
    bpy.ops.ed.undo_push(message="before")
    before = counts()
    bpy.ops.cograd3d.import_result("EXEC_DEFAULT", True, job=job.id)
    assert counts() == {kind: before[kind] + 1 for kind in KINDS}
    bpy.ops.ed.undo()
    assert counts() == before
    bpy.ops.ed.redo()
    assert counts() == {kind: before[kind] + 1 for kind in KINDS}
    assert bpy.data.objects["a golden teapot"]["cograd3d"]["job"] == job.id


def test_one_step_brings_back_what_was_replaced(thing, another_job):
    uuid = thing["cograd3d"]["uuid"]
    bpy.ops.ed.undo_push(message="before")
    before = counts()
    old = [vertex.co[:] for vertex in thing.data.vertices[:10]]
    bpy.ops.cograd3d.import_onto("EXEC_DEFAULT", True, job=another_job("2026-01-02-other-0a1b2d").id)
    bpy.ops.ed.undo()
    thing = bpy.data.objects["a golden teapot"]
    assert counts() == before and thing["cograd3d"]["job"].endswith("0a1b2c") and thing["cograd3d"]["uuid"] == uuid
    assert [vertex.co[:] for vertex in thing.data.vertices[:10]] == old
    assert image_of(thing).packed_file is not None


def test_what_was_painted_and_not_saved_comes_back_too(thing, another_job):
    """Blender's own undo brings back what is packed alone."""
    paint(image_of(thing))
    painted, name = shown_by(image_of(thing)), image_of(thing).name
    bpy.ops.ed.undo_push(message="before")
    bpy.ops.cograd3d.import_onto("EXEC_DEFAULT", True, job=another_job("2026-01-02-other-0a1b2d").id)
    for _ in range(2):
        texture = image_of(bpy.data.objects["a golden teapot"])
        assert texture.name == name and not np.allclose(shown_by(texture), painted)
        bpy.ops.ed.undo()
        texture = image_of(bpy.data.objects["a golden teapot"])
        assert texture.name == name and texture.is_dirty
        np.testing.assert_array_equal(shown_by(texture), painted)
        bpy.ops.ed.redo()
