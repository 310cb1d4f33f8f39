"""Results that come by themselves when their job is done: at once, or when nothing is in the way any more."""

from __future__ import annotations

import bpy
import pytest

PREVIEW = "CoGrad3D Preview"


@pytest.fixture
def automatic(addon_module):
    return addon_module("importing.automatic")


@pytest.fixture
def ordered(job, addon_module):
    """The job, as if it had been ordered from the open file."""
    order = addon_module("importing").order_for(bpy.context.scene)
    addon_module("..backend.files").atomic_write_json(job.path / "blender.json", order)
    return job


@pytest.fixture
def end(ordered, session, addon_module, pump):
    """Tell everybody that the job has come to its good end, with a preview of it still in the scene."""
    protocol, preview = addon_module("..backend.protocol"), addon_module("importing.preview")

    def tell(event) -> None:
        for listener in list(session.manager().listeners):
            listener(ordered, event)

    def end(with_preview: bool = True) -> None:
        if with_preview:
            preview.keep(ordered.id)  # only jobs that run have one
            ordered.preview = protocol.PreviewReady(iteration=1, image="preview.png", splats="preview.ply")
            tell(ordered.preview)
            pump(lambda: preview.object_of(ordered.id) is not None, what="the preview")
        tell(protocol.Bye(reason="finished", exit_code=0))

    return end


def results() -> list[bpy.types.Object]:
    return [thing for thing in bpy.data.objects if "cograd3d" in thing]


def nothing_of_the_preview() -> bool:
    datablocks = [*bpy.data.objects, *bpy.data.meshes, *bpy.data.materials]
    return not any("cograd3d_preview" in datablock for datablock in datablocks) and PREVIEW not in bpy.data.collections


def test_comes_at_once_in_place_of_the_preview(end, ordered, automatic):
    end()
    (thing,) = results()
    assert thing["cograd3d"]["job"] == ordered.id
    assert nothing_of_the_preview()
    assert automatic.state(ordered) == ""


def test_is_one_undo_step(end, session, pump):
    bpy.ops.ed.undo_push(message="before")
    end()
    assert len(results()) == 1
    bpy.ops.ed.undo()
    session.poll()
    assert not results() and nothing_of_the_preview() and "CoGrad3D" not in bpy.data.collections
    bpy.ops.ed.redo()
    session.poll()
    assert len(results()) == 1 and nothing_of_the_preview()


def test_waits_while_something_is_edited(end, ordered, automatic, session, pump):
    mesh = bpy.data.meshes.new("Mine")
    mine = bpy.data.objects.new("Mine", mesh)
    bpy.context.scene.collection.objects.link(mine)
    bpy.context.view_layer.objects.active = mine
    bpy.ops.object.mode_set(mode="EDIT")
    end()
    session.poll()
    assert not results() and "Mine is being edited" in automatic.state(ordered)
    assert not nothing_of_the_preview(), "the preview stays until the result is there"
    bpy.ops.object.mode_set(mode="OBJECT")
    pump(results, what="the result", timeout=10)
    assert nothing_of_the_preview() and automatic.state(ordered) == ""


def test_one_that_is_damaged_is_told(end, ordered, automatic):
    ordered.folder.asset_path.write_bytes(b"")
    end()
    assert not results() and nothing_of_the_preview()
    assert "damaged" in automatic.state(ordered)


def test_comes_into_its_scene_by_whatever_name(end, ordered):
    bpy.context.scene.name = "Renamed"
    end()
    assert len(results()) == 1 and results()[0].name in bpy.context.scene.objects


def test_a_copy_of_the_scene_is_another(end, ordered):
    scene = bpy.context.scene
    bpy.ops.scene.new(type="FULL_COPY")
    end()
    assert results()[0].name in scene.objects


def test_says_so_if_its_scene_is_gone(end, ordered, automatic):
    scene = bpy.context.scene
    bpy.data.scenes.new("Another")
    bpy.data.scenes.remove(scene)
    end(with_preview=False)
    assert not results() and "scene" in automatic.state(ordered)


def test_an_error_that_nobody_thought_of_is_told(end, ordered, automatic, monkeypatch):
    def fail(*_):
        raise ValueError("never heard of")

    monkeypatch.setattr(automatic, "bring", fail)
    end()
    assert nothing_of_the_preview() and "never heard of" in automatic.state(ordered)


def test_imported_by_hand_while_it_waits(end, ordered, session):
    mine = bpy.data.objects.new("Mine", bpy.data.meshes.new("Mine"))
    bpy.context.scene.collection.objects.link(mine)
    bpy.context.view_layer.objects.active = mine
    bpy.ops.object.mode_set(mode="EDIT")
    end()
    bpy.ops.object.mode_set(mode="OBJECT")
    bpy.ops.cograd3d.import_result(job=ordered.id)
    session.poll()
    assert len(results()) == 1 and nothing_of_the_preview()


def test_stays_away_if_not_wanted(end):
    bpy.context.scene.cograd3d.import_when_done = False
    end()
    assert not results()


def test_does_not_come_into_another_file(ordered, session, addon_module):
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    for listener in list(session.manager().listeners):
        listener(ordered, addon_module("..backend.protocol").Bye(reason="finished", exit_code=0))
    assert not results()
